#include "store/pg_migrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "database/pg_connection.h"
#include "store/index_build.h"
#include "store/migrations.h"
#include "store/pg_indexes.h"
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
// Rows that were there before are indexed beside the writers: see IndexBuild.
constexpr std::string_view kLockNotAvailable = "55P03";

enum class Step { kApplied, kThereAlready, kLeftToIndexBuild };

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
      if (*step == Step::kApplied) applied.emplace_back(migration.name);
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
    if (migration.each_by_itself) {
      const Result<bool> made = make_indexes(migration, *schema);
      if (!made) return made.error();
      if (!*made) return Step::kLeftToIndexBuild;
    } else if (auto run = connection_.exec_script(with_prefix(migration.sql, options_.table_prefix)); !run) {
      return in_use(run.error());
    }
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
                                           {lock_of_migrations(options_.table_prefix)});
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

  // Those of empty tables, in the migration's transaction. False: there are rows, and not all indexes are valid.
  Result<bool> make_indexes(const Migration& migration, const PgSchema& schema) {
    const auto indexes = look_at_indexes(connection_, options_.table_prefix);
    if (!indexes) return indexes.error();
    for (const PgIndex& index : indexes->missing) {
      if (index.migration != &migration) continue;
      const Result<bool> rows = have_rows(schema);
      if (!rows) return rows.error();
      if (*rows) return false;
      if (auto built = connection_.exec_script(without_concurrently(index.sql)); !built) return built.error();
    }
    return true;
  }

  // A lock that was not to be had, with who has it.
  Error in_use(Error error) {
    if (error.sqlstate != kLockNotAvailable || connection_.broken()) return error;
    connection_.rollback();
    const auto users = who_uses_tables(connection_, options_.table_prefix);
    error.message =
        users && !users->empty()
            ? fmt::format("the tables are to get new columns, which waits for {} ({})", *users, error.message)
            : fmt::format(
                  "the tables are being made, which waits for another session that has done the same or holds "
                  "a lock, and is tried again ({})",
                  error.message);
    return error;
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
        "the server is a hot standby (read-only, in recovery) and nothing can be written there; name the "
        "primary, or all servers with target_session_attrs=read-write in the url");
  }
  if (!fields.boolean()) return {};
  return Error{
      ErrorKind::kRefused,
      "sessions of this role in this database are read-only (default_transaction_read_only = on): ALTER ROLE "
      "… or ALTER DATABASE … SET default_transaction_read_only = off"};
}

// Without it a resent event can be applied twice; whoever may not build it must not work without it.
Result<void> require_unique_events(PgConnection& connection, std::string_view prefix) {
  const auto indexes = look_at_indexes(connection, prefix);
  if (!indexes) return at_opening(indexes.error());
  if (indexes->events_unique) return {};
  for (const PgIndex& index : indexes->missing) {
    if (!index.name.ends_with("run_events_event\"")) continue;
    const auto doubles = doubles_in_the_way(connection, prefix, index);
    if (doubles && !doubles->empty()) return Error{ErrorKind::kRefused, *doubles};
    return Error{
        ErrorKind::kNotFound,
        fmt::format("the history has no valid unique index of (run_id, event_id), which keeps an event that is "
                    "sent again from being applied twice; run-recorderd --migrate builds it, or: {}",
                    sql_by_hand(index))};
  }
  return {};
}

Result<void> build_indexes(const StoreOptions& options, PgConnection& connection, MigrationReport& report) {
  IndexBuild build(options);
  const auto built = build.run();
  if (!built) return built.error();
  report.applied.insert(report.applied.end(), built->recorded.begin(), built->recorded.end());
  if (built->all_valid) return {};
  const auto left = look_at_indexes(connection, options.table_prefix);
  if (!left) return left.error();
  for (const PgIndex& index : left->missing) {
    report.indexes_left += (report.indexes_left.empty() ? "" : ", ") + index.name;
  }
  const auto holders = who_holds_up_indexes(connection, options.table_prefix);
  if (holders && !holders->empty()) report.indexes_left += ", held up by " + *holders;
  return {};
}

}  // namespace

Result<MigrationReport> migrate_pg(const StoreOptions& options, PgMigration how) {
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
  if (how != PgMigration::kVerifyOnly && needs_migration(*schema)) {
    auto applied = migrator.apply_missing();
    if (!applied) return at_opening(applied.error());
    report.applied = std::move(*applied);
    schema = migrator.look();
    if (!schema) return schema.error();
  }
  if (auto fits = verify(*schema); !fits) return fits.error();
  if (how == PgMigration::kVerifyOnly) {
    if (auto unique = require_unique_events(**connection, options.table_prefix); !unique) return unique.error();
  } else if (how == PgMigration::kAll) {
    if (auto built = build_indexes(options, **connection, report); !built) return built.error();
    schema = migrator.look();
    if (!schema) return schema.error();
  }
  report.schema_version = schema->version();
  return report;
}

}  // namespace run_recorder
