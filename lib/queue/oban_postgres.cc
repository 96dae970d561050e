// Oban's jobs in PostgreSQL: plain SELECTs, each with the deadline of the queue, ages by the server's clock.
#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "database/pg_connection.h"
#include "database/pg_policies.h"
#include "queue/oban_table.h"

namespace run_recorder {

namespace {

// Oban's times are timestamps without time zone that mean UTC, so the clock is put into the same form; nothing here
// depends on the session's time zone. The state is an enum that grew between versions: compared as text. Infinite
// times, which subtraction refuses, do not count. date_part() reckons in binary, in half the time of extract(), and
// is exact to the microsecond until 2041.
constexpr std::string_view kSelectPostgresJobs =
    "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now) "
    "SELECT j.id, j.state::text, j.attempt, "
    "(date_part('epoch', clock.now - greatest(CASE WHEN isfinite(j.inserted_at) THEN j.inserted_at END, "
    "CASE WHEN isfinite(j.attempted_at) THEN j.attempted_at END, "
    "CASE WHEN isfinite(j.completed_at) THEN j.completed_at END, "
    "CASE WHEN isfinite(j.cancelled_at) THEN j.cancelled_at END, "
    "CASE WHEN isfinite(j.discarded_at) THEN j.discarded_at END, "
    "CASE WHEN j.scheduled_at <= clock.now AND isfinite(j.scheduled_at) THEN j.scheduled_at END)) * 1000)::bigint, "
    "left(j.errors[array_upper(j.errors, 1)] ->> 'at', 64), "
    "(date_part('epoch', clock.now) * 1000000)::bigint, "
    "(date_part('epoch', CASE WHEN isfinite(j.inserted_at) THEN j.inserted_at END) * 1000000)::bigint, "
    "(date_part('epoch', CASE WHEN isfinite(j.attempted_at) THEN j.attempted_at END) * 1000000)::bigint "
    "FROM clock, {} j WHERE j.id = ANY ($1::bigint[])";

// Also where the role's own default is another level.
constexpr const char* kEachItsOwnSnapshot = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";

// Whether rows may be hidden, and on a standby how far it has come: the last commit that was replayed, or, where all
// that the sender had at its latest message is replayed, the time of that message (only for roles with
// pg_read_all_stats). The latter is the sender's word, which on a standby behind another standby may be late.
constexpr const char* kSelectView =
    "SELECT row_security_active(to_regclass($1)), pg_is_in_recovery(), "
    "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, "
    "CASE WHEN pg_is_in_recovery() THEN (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::bigint END, "
    "CASE WHEN pg_is_in_recovery() THEN (SELECT (extract(epoch FROM last_msg_send_time) * 1000000)::bigint "
    "FROM pg_stat_wal_receiver WHERE latest_end_lsn <= pg_last_wal_replay_lsn()) END";

std::int64_t integer(const pqxx::field& field) {
  const std::string_view text(field.c_str(), field.size());
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::optional<Timestamp> time(const pqxx::field& field) {
  if (field.is_null()) return std::nullopt;
  return Timestamp{std::chrono::microseconds(integer(field))};
}

ObanJob read_job(const pqxx::row& row) {
  ObanJob job;
  job.state = row[1].c_str();
  if (!row[2].is_null()) job.attempt = integer(row[2]);
  job.inserted_at = time(row[6]);
  job.attempted_at = time(row[7]);
  if (!row[3].is_null()) job.changed_ago = std::chrono::milliseconds(std::max<std::int64_t>(0, integer(row[3])));
  if (!row[4].is_null()) {
    const Timestamp now{std::chrono::microseconds(integer(row[5]))};
    job.changed_ago = latest(job.changed_ago, error_age(row[4].c_str(), now));
  }
  return job;
}

class ObanInPostgres final : public ObanTable {
 public:
  ObanInPostgres(std::unique_ptr<PgConnection> connection, std::string table)
      : connection_(std::move(connection)),
        table_(std::move(table)),
        select_(fmt::format(kSelectPostgresJobs, table_)) {}

  // The reader's view comes first, and the jobs in a later snapshot: what was replayed by then is in it.
  Result<ObanSnapshot> read(std::span<const std::int64_t> job_ids) override {
    const PgConnection::Deadline deadline(*connection_);
    auto transaction = PgTransaction::begin(*connection_);
    if (!transaction) return transaction.error();
    if (const auto set = connection_->exec_script(kEachItsOwnSnapshot); !set) return set.error();
    ObanSnapshot snapshot;
    if (const auto known = check_view(snapshot); !known) return known.error();
    const auto rows = connection_->exec(select_, {fmt::format("{{{}}}", fmt::join(job_ids, ","))});
    if (!rows) return rows.error();
    for (const auto& row : *rows) snapshot.jobs.emplace(integer(row[0]), read_job(row));
    if (const auto ended = transaction->commit(); !ended)
      return Error{ErrorKind::kUnavailable, ended.error().message};
    return snapshot;
  }

 private:
  Result<void> check_view(ObanSnapshot& snapshot) {
    const auto rows = connection_->exec(kSelectView, {table_});
    if (!rows) return rows.error();
    const auto& row = (*rows)[0];
    if (row[1].c_str()[0] == 't') {
      snapshot.replay = ObanReplay{time(row[3]), *time(row[2])};
      const auto told = time(row[4]);
      if (told && (!snapshot.replay->until || *told > *snapshot.replay->until)) snapshot.replay->until = told;
    }
    if (row[0].c_str()[0] != 't') return {};
    const auto hides = policies_may_hide_rows(*connection_, table_, "{r}");
    if (!hides) return hides.error();
    if (*hides) snapshot.may_hide = advice_for_hidden_rows(table_);
    return {};
  }

  std::unique_ptr<PgConnection> connection_;
  const std::string table_;
  const std::string select_;
};

}  // namespace

Result<std::unique_ptr<ObanTable>> open_oban_in_postgres(const QueueOptions& options) {
  const auto table = quoted_table(options.table);
  if (!table) return table.error();
  PgOptions where;
  where.url = options.url;
  where.connect_timeout = options.connect_timeout;
  where.deadline = options.deadline;
  where.reconnects_at_begin = true;
  auto connection = PgConnection::connect(where);
  if (!connection) return connection.error();
  return std::unique_ptr<ObanTable>(std::make_unique<ObanInPostgres>(std::move(*connection), *table));
}

}  // namespace run_recorder
