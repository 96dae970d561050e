#include "store/pg_migrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/uuid.h"
#include "database/pg_connection.h"
#include "store/migrations.h"
#include "store/pg_rows.h"
#include "store/pg_schema.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// While others hold the lock it is asked for again and again: waiting inside of a statement would hold a snapshot,
// and an index that is built concurrently waits for every snapshot.
constexpr milliseconds kLockPause{20};
// A table that somebody uses for long is not waited for: everybody else would queue behind us.
constexpr std::string_view kLockTimeout = "SET LOCAL lock_timeout = '3s'";
// Of all indexes together; the lease lives a little longer. What takes longer, or waits for somebody's long
// transaction, goes on in the server and is looked at again at the next start: nothing but speed depends on it.
constexpr std::chrono::minutes kIndexDeadline{10};
constexpr std::chrono::minutes kLeaseSlack{1};
constexpr std::string_view kIndexLease = "migrate";

enum class Step { kApplied, kThereAlready, kNeedsIndexes };

Error unavailable(std::string message) {
  return Error{ErrorKind::kUnavailable, std::move(message)};
}

PgOptions connection_options(const StoreOptions& options, milliseconds deadline) {
  PgOptions own;
  own.url = options.url;
  own.connect_timeout = options.connect_timeout;
  own.reconnects_at_begin = true;
  own.deadline = deadline;
  return own;
}

bool needs_migration(const PgSchema& schema) {
  const auto migrations = postgresql_migrations();
  return std::any_of(migrations.begin(), migrations.end(),
                     [&](const Migration& migration) { return !schema.applied.contains(migration.version); });
}

class Migrator {
 public:
  Migrator(const StoreOptions& options, PgConnection& connection) : options_(options), connection_(connection) {}

  // Whether the schema of a look fits, and is the newest.
  Result<PgSchema> look() { return read_pg_schema(connection_, options_.table_prefix); }

  Result<std::vector<std::string>> apply_missing() {
    std::vector<std::string> applied;
    for (const Migration& migration : postgresql_migrations()) {
      const Result<Step> step = apply(migration);
      if (!step) return step.error();
      bool done = *step == Step::kApplied;
      if (*step == Step::kNeedsIndexes) {
        const Result<bool> built = build_indexes(migration);
        if (!built) return built.error();
        done = *built;
      }
      if (done) applied.emplace_back(migration.name);
    }
    return applied;
  }

 private:
  Result<Step> apply(const Migration& migration) {
    auto transaction = begin_locked();
    if (!transaction) return transaction.error();
    const Result<PgSchema> schema = look();
    if (!schema) return schema.error();
    if (schema->applied.contains(migration.version)) return Step::kThereAlready;
    if (const auto problems = obstacles(*schema); !problems.empty()) {
      return Error{ErrorKind::kRefused, fmt::format("{}", fmt::join(problems, "; "))};
    }
    if (auto moved = create_beside(*schema); !moved) return moved.error();
    std::string sql = with_prefix(migration.sql, options_.table_prefix);
    if (migration.each_by_itself) {
      const Result<bool> rows = have_rows(*schema);
      if (!rows) return rows.error();
      if (*rows) return Step::kNeedsIndexes;
      sql = without_word(std::move(sql), " CONCURRENTLY");
    }
    if (auto run = connection_.exec_script(sql); !run) return run.error();
    if (auto recorded = record(migration); !recorded) return recorded.error();
    if (auto committed = transaction->commit(); !committed) return unavailable(committed.error().message);
    return Step::kApplied;
  }

  // A transaction that holds the lock of all migrations with this prefix in this database.
  Result<PgTransaction> begin_locked() {
    const auto give_up = steady_clock::now() + options_.deadline;
    for (;;) {
      auto transaction = PgTransaction::begin(connection_);
      if (!transaction) return transaction;
      const auto locked = connection_.exec("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))",
                                           {"run-recorder migrations of " + options_.table_prefix});
      if (!locked) return locked.error();
      if ((*locked)[0][0].c_str()[0] == 't') {
        if (auto set = connection_.exec(std::string(kLockTimeout)); !set) return set.error();
        return transaction;
      }
      if (steady_clock::now() > give_up) return unavailable("another daemon is migrating the database");
      { const PgTransaction ended = std::move(*transaction); }
      std::this_thread::sleep_for(kLockPause);
    }
  }

  // An application's runs may stand in another schema of the search path than the one new tables would go to.
  Result<void> create_beside(const PgSchema& schema) {
    for (const char* name : {"runs", "run_events", "recorder_schema"}) {
      const PgTable& table = schema.tables.at(name);
      if (!table.exists) continue;
      const auto set = connection_.exec(
          "SELECT set_config('search_path', quote_ident($1) || ', ' || current_setting('search_path'), true)",
          {table.schema});
      if (!set) return set.error();
      return {};
    }
    return {};
  }

  Result<bool> have_rows(const PgSchema& schema) {
    const auto rows = connection_.exec(fmt::format("SELECT EXISTS (SELECT 1 FROM {}) OR EXISTS (SELECT 1 FROM {})",
                                                   schema.table("runs"), schema.table("run_events")));
    if (!rows) return rows.error();
    return (*rows)[0][0].c_str()[0] == 't';
  }

  static std::string without_word(std::string sql, std::string_view word) {
    for (std::size_t at = sql.find(word); at != std::string::npos; at = sql.find(word)) sql.erase(at, word.size());
    return sql;
  }

  Result<void> record(const Migration& migration) {
    const auto recorded = connection_.exec(
        fmt::format("INSERT INTO \"{}recorder_schema\" (version, name, oldest_daemon) VALUES ($1::integer, $2, $3) "
                    "ON CONFLICT (version) DO NOTHING",
                    options_.table_prefix),
        {migration.version, migration.name, migration.oldest_daemon});
    if (!recorded) return recorded.error();
    return {};
  }

  // False: not now, because another daemon is at it or because it takes too long.
  Result<bool> build_indexes(const Migration& migration) {
    PgOptions by_itself = connection_options(options_, kIndexDeadline);
    by_itself.server_gives_up = false;
    auto patient = PgConnection::connect(by_itself);
    if (!patient) return patient.error();
    const std::string holder = random_hex(32);
    const Result<bool> leased = lease(holder);
    if (!leased || !*leased) return leased;
    const PgConnection::Deadline deadline(**patient);
    for (const std::string& statement : statements_of(with_prefix(migration.sql, options_.table_prefix))) {
      const Result<void> built = build_index(**patient, statement);
      if (built) continue;
      // Entries that contradict each other are for somebody to look at; everything else passes.
      // The lease stays there, because the server may still be at it.
      if (at_opening(built.error()).kind != ErrorKind::kRefused) return false;
      release(holder);
      return built.error();
    }
    if (auto recorded = record(migration); !recorded) return recorded.error();
    release(holder);
    return true;
  }

  // Where this fails the lease expires.
  void release(const std::string& holder) {
    static_cast<void>(connection_.exec(
        fmt::format("DELETE FROM \"{}leases\" WHERE name = $1 AND holder = $2", options_.table_prefix),
        {kIndexLease, holder}));
  }

  Result<bool> lease(const std::string& holder) {
    const auto seconds = std::chrono::seconds(kIndexDeadline + kLeaseSlack).count();
    const auto taken = connection_.exec(
        fmt::format("INSERT INTO \"{}leases\" AS l (name, holder, expires_at) "
                    "VALUES ($1, $2, now() + $3::integer * interval '1 second') ON CONFLICT (name) DO UPDATE SET "
                    "holder = excluded.holder, expires_at = excluded.expires_at "
                    "WHERE l.holder = excluded.holder OR l.expires_at <= now()",
                    options_.table_prefix),
        {kIndexLease, holder, seconds});
    if (!taken) return taken.error();
    return taken->affected_rows() == 1;
  }

  // An index whose building was interrupted stays behind as invalid, and is in the way of a new one.
  static Result<void> build_index(PgConnection& connection, const std::string& statement) {
    const std::size_t begin = statement.find('"');
    const std::string name = statement.substr(begin, statement.find('"', begin + 1) + 1 - begin);
    const auto invalid = connection.exec(
        "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)", {name});
    if (!invalid) return invalid.error();
    if ((*invalid)[0][0].c_str()[0] == 't') {
      if (auto dropped = connection.exec("DROP INDEX CONCURRENTLY " + name); !dropped) return dropped.error();
    }
    if (auto built = connection.exec(statement); !built) {
      Error error = built.error();
      error.message = fmt::format("index {} cannot be built: {}", name, error.message);
      if (!connection.broken()) static_cast<void>(connection.exec("DROP INDEX CONCURRENTLY IF EXISTS " + name));
      return error;
    }
    return {};
  }

  const StoreOptions& options_;
  PgConnection& connection_;
};

// Whether anything can be written at all. A standby may be promoted at any time: it is away, not refusing.
Result<void> check_writable(PgConnection& connection) {
  const auto rows = connection.exec("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'");
  if (!rows) return rows.error();
  PgFields fields((*rows)[0]);
  if (fields.boolean()) {
    return unavailable(
        "the server is a hot standby (read-only, in recovery) and nothing can be recorded there; name the primary, "
        "or "
        "all servers with target_session_attrs=read-write in the url");
  }
  if (!fields.boolean()) return {};
  return Error{
      ErrorKind::kRefused,
      "sessions of this role in this database are read-only (default_transaction_read_only = on): ALTER ROLE "
      "… or ALTER DATABASE … SET default_transaction_read_only = off"};
}

}  // namespace

Result<MigrationReport> migrate_pg(const StoreOptions& options, bool verify_only) {
  if (auto fits = check_table_prefix(options.table_prefix); !fits) return fits.error();
  auto connection = PgConnection::connect(connection_options(options, options.deadline));
  if (!connection) return connection.error();
  if (auto writable = check_writable(**connection); !writable) return writable.error();
  Migrator migrator(options, **connection);
  Result<PgSchema> schema = migrator.look();
  if (!schema) return schema.error();
  const auto migrations = postgresql_migrations();
  if (auto young = check_schema_age(migrations, schema->version(), schema->oldest_daemon); !young)
    return young.error();
  MigrationReport report;
  if (!verify_only && needs_migration(*schema)) {
    auto applied = migrator.apply_missing();
    if (!applied) return at_opening(applied.error());
    report.applied = std::move(*applied);
    schema = migrator.look();
    if (!schema) return schema.error();
  }
  if (auto fits = verify(*schema); !fits) return fits.error();
  report.schema_version = schema->version();
  return report;
}

}  // namespace run_recorder
