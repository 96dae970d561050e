#include "store/index_build.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "base/uuid.h"
#include "database/pg_connection.h"
#include "store/pg_indexes.h"
#include "store/pg_rows.h"
#include "store/pg_schema.h"

namespace run_recorder {
namespace {

// Up to this many bytes of both tables an index is built in a moment, and a lock that stops writers costs them less
// than a building that waits for every older transaction.
constexpr std::int64_t kSmallBytes = 16 << 20;
constexpr std::string_view kShortLock = "SET LOCAL lock_timeout = '1s'";
// Of one call; what takes longer goes on in the server, and is found there by the next run().
constexpr std::chrono::minutes kPatience{10};
// So that two daemons do not begin the same building; one that is under way is seen by all.
constexpr std::string_view kLease = "migrate";
constexpr std::chrono::seconds kLeaseTime{60};

// What other roles build shows no table, and may be ours.
constexpr const char* kUnderWay =
    "SELECT EXISTS (SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database() AND (relid IS "
    "NULL "
    "OR relid IN (to_regclass($1), to_regclass($2))))";
constexpr const char* kSize =
    "SELECT coalesce(pg_table_size(to_regclass($1)), 0) + coalesce(pg_table_size(to_regclass($2)), 0)";

}  // namespace

// One run: its connections and its lease.
class IndexBuild::Work {
 public:
  Work(const StoreOptions& options, PgConnection& quick, PgConnection& patient)
      : options_(options), quick_(quick), patient_(patient) {}
  ~Work() {
    // Where this fails the lease expires.
    if (leased_)
      static_cast<void>(quick_.exec(fmt::format("DELETE FROM {} WHERE name = $1 AND holder = $2", table("leases")),
                                    {kLease, holder_}));
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  Result<Outcome> build_all() {
    Outcome outcome;
    auto indexes = look_at_indexes(quick_, options_.table_prefix);
    if (!indexes) return indexes.error();
    std::optional<Error> refused;
    for (const PgIndex& index : indexes->missing) {
      const auto begun = may_begin();
      if (!begun) return begun.error();
      if (!*begun) return outcome;
      const auto built = build(index);
      if (built) continue;
      // What contradicts itself is for somebody to look at; the other indexes are built all the same.
      if (built.error().kind != ErrorKind::kRefused) return built.error();
      if (!refused) refused = built.error();
    }
    if (refused) return *refused;
    indexes = look_at_indexes(quick_, options_.table_prefix);
    if (!indexes) return indexes.error();
    outcome.all_valid = indexes->missing.empty();
    if (!outcome.all_valid) return outcome;
    if (auto recorded = record_all(outcome); !recorded) return recorded.error();
    return outcome;
  }

 private:
  std::string table(std::string_view name) const { return fmt::format("\"{}{}\"", options_.table_prefix, name); }

  Result<bool> may_begin() {
    const auto taken = quick_.exec(
        fmt::format("INSERT INTO {} AS l (name, holder, expires_at) "
                    "VALUES ($1, $2, now() + $3::integer * interval '1 second') ON CONFLICT (name) DO UPDATE SET "
                    "holder = excluded.holder, expires_at = excluded.expires_at "
                    "WHERE l.holder = excluded.holder OR l.expires_at <= now()",
                    table("leases")),
        {kLease, holder_, kLeaseTime.count()});
    if (!taken) return taken.error();
    leased_ = taken->affected_rows() == 1;
    if (!leased_) return false;
    const auto rows = quick_.exec(kUnderWay, {table("runs"), table("run_events")});
    if (!rows) return rows.error();
    return !PgFields((*rows)[0]).boolean();
  }

  Result<void> build(const PgIndex& index) {
    const auto size = quick_.exec(kSize, {table("runs"), table("run_events")});
    if (!size) return size.error();
    if (PgFields((*size)[0]).integer() <= kSmallBytes) {
      const auto built = build_at_once(index);
      if (built) return {};
      if (built.error().kind == ErrorKind::kData) return in_the_way(index, built.error());
      if (quick_.broken()) return built.error();
    }
    return build_beside(index);
  }

  Result<void> build_at_once(const PgIndex& index) {
    auto transaction = PgTransaction::begin(quick_);
    if (!transaction) return transaction.error();
    if (auto set = quick_.exec(std::string(kShortLock)); !set) return set.error();
    const auto rows = quick_.exec("SELECT to_regclass($1) IS NOT NULL", {index.name});
    if (!rows) return rows.error();
    if (PgFields((*rows)[0]).boolean()) {
      if (auto dropped = quick_.exec("DROP INDEX " + index.name); !dropped) return dropped.error();
    }
    if (auto built = quick_.exec(without_concurrently(index.sql)); !built) return built.error();
    return transaction->commit();
  }

  // An index whose building was interrupted stays behind as invalid, and is in the way of a new one.
  Result<void> build_beside(const PgIndex& index) {
    const std::string drop = fmt::format("DROP INDEX CONCURRENTLY IF EXISTS {}", index.name);
    if (auto dropped = patient_.exec(drop); !dropped) return dropped.error();
    const auto built = patient_.exec(index.sql);
    const bool is_of_seq = index.name.ends_with("run_events_seq\"");
    const std::string stand_in = table("run_events_by_run");
    if (built) {
      if (is_of_seq) static_cast<void>(patient_.exec("DROP INDEX CONCURRENTLY IF EXISTS " + stand_in));
      return {};
    }
    if (built.error().kind != ErrorKind::kData || patient_.broken()) return built.error();
    static_cast<void>(patient_.exec(drop));
    // Until somebody has repaired the entries a run's history has to be found all the same: without any index each
    // row that the application wrote costs a look at the whole table, and no pass over many of them would end.
    if (is_of_seq) {
      static_cast<void>(patient_.exec(fmt::format("CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} (run_id, seq)",
                                                  stand_in, table("run_events"))));
    }
    return in_the_way(index, built.error());
  }

  Error in_the_way(const PgIndex& index, const Error& error) {
    const auto doubles = doubles_in_the_way(patient_, options_.table_prefix, index);
    if (doubles && !doubles->empty()) return Error{ErrorKind::kRefused, *doubles, error.sqlstate};
    return Error{ErrorKind::kRefused, fmt::format("index {} cannot be built: {}", index.name, error.message),
                 error.sqlstate};
  }

  Result<void> record_all(Outcome& outcome) {
    for (const Migration& migration : postgresql_migrations()) {
      if (!migration.each_by_itself) continue;
      const auto recorded =
          quick_.exec(fmt::format("INSERT INTO {} (version, name, oldest_daemon) VALUES ($1::integer, $2, $3) "
                                  "ON CONFLICT (version) DO NOTHING",
                                  table("recorder_schema")),
                      {migration.version, migration.name, migration.oldest_daemon});
      if (!recorded) return recorded.error();
      if (recorded->affected_rows() == 1) outcome.recorded.emplace_back(migration.name);
    }
    return {};
  }

  const StoreOptions& options_;
  PgConnection& quick_;
  PgConnection& patient_;
  const std::string holder_ = random_hex(32);
  bool leased_ = false;
};

IndexBuild::IndexBuild(StoreOptions options) : options_(std::move(options)) {}

IndexBuild::~IndexBuild() = default;

Result<IndexBuild::Outcome> IndexBuild::run() {
  PgOptions connecting;
  connecting.url = options_.url;
  connecting.connect_timeout = options_.connect_timeout;
  connecting.deadline = options_.deadline;
  auto quick = PgConnection::connect(connecting);
  if (!quick) return quick.error();
  connecting.deadline = kPatience;
  connecting.server_gives_up = false;
  auto patient = PgConnection::connect(connecting);
  if (!patient) return patient.error();
  {
    const MutexLock lock(mutex_);
    if (abandoned_) return Error{ErrorKind::kUnavailable, "the index build was cancelled"};
    under_way_ = {quick->get(), patient->get()};
  }
  Result<Outcome> outcome = Work(options_, **quick, **patient).build_all();
  const MutexLock lock(mutex_);
  under_way_.clear();
  // The server goes on with what took longer than this call may.
  if (!outcome && (*patient)->broken() && !(*quick)->broken()) return Outcome();
  if (!outcome) return at_opening(outcome.error());
  return outcome;
}

void IndexBuild::abandon() {
  const MutexLock lock(mutex_);
  abandoned_ = true;
  for (PgConnection* connection : under_way_) connection->abandon();
}

}  // namespace run_recorder
