// Oban's jobs in SQLite (its Lite engine): a connection that only reads, beside the application that writes. Ages by
// the host's clock.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/url.h"
#include "database/sqlite.h"
#include "queue/oban_table.h"

namespace run_recorder {

namespace {

// errors is a JSON list as text; whatever it holds, reading it must not fail.
constexpr std::string_view kSelectSqliteJobs =
    "SELECT j.id, j.state, j.attempt, j.inserted_at, j.attempted_at, j.completed_at, j.cancelled_at, j.discarded_at, "
    "j.scheduled_at, CASE WHEN json_valid(CAST(j.errors AS TEXT)) THEN json_extract(CAST(j.errors AS TEXT), "
    "'$[#-1].at') END FROM {} j WHERE j.id IN (SELECT value FROM json_each(?1))";
constexpr int kInsertedAt = 3;  // the first of the times
constexpr int kAttemptedAt = 4;
constexpr int kLastTime = 7;
constexpr int kScheduledAt = 8;
constexpr int kErrorAt = 9;

ObanJob read_job(const SqliteRows& row, Timestamp now) {
  ObanJob job;
  job.state = row.text(1);
  job.attempt = row.optional_integer(2);
  job.inserted_at = row.time(kInsertedAt);
  job.attempted_at = row.time(kAttemptedAt);
  const auto changed = [&job, now](Timestamp time) {
    const auto ago = std::chrono::duration_cast<std::chrono::milliseconds>(now - time);
    job.changed_ago = latest(job.changed_ago, std::max(std::chrono::milliseconds(0), ago));
  };
  for (int column = kInsertedAt; column <= kLastTime; ++column) {
    if (const auto time = row.time(column)) changed(*time);
  }
  if (const auto time = row.time(kScheduledAt); time && *time <= now) changed(*time);
  job.changed_ago = latest(job.changed_ago, error_age(row.text(kErrorAt), now));
  return job;
}

class ObanInSqlite final : public ObanTable {
 public:
  ObanInSqlite(std::unique_ptr<SqliteConnection> connection, SqliteStatement select)
      : connection_(std::move(connection)), select_(std::move(select)) {}

  Result<ObanSnapshot> read(std::span<const std::int64_t> job_ids) override {
    connection_->begin_call();
    // A file that was replaced would answer with yesterday's jobs for ever.
    if (auto there = connection_->check_file(); !there) return there.error();
    const std::string ids = fmt::format("[{}]", fmt::join(job_ids, ","));
    SqliteRows rows = select_.rows(ids);
    const Timestamp now = now_utc();
    ObanSnapshot snapshot;
    while (true) {
      const auto found = rows.next();
      if (!found) return found.error();
      if (!*found) return snapshot;
      snapshot.jobs.emplace(rows.integer(0), read_job(rows, now));
    }
  }

 private:
  std::unique_ptr<SqliteConnection> connection_;
  SqliteStatement select_;  // must go before the connection
};

}  // namespace

Result<std::unique_ptr<ObanTable>> open_oban_in_sqlite(const QueueOptions& options) {
  const auto table = quoted_table(options.table);
  if (!table) return table.error();
  auto connection =
      SqliteConnection::open({.path = sqlite_path(options.url), .read_only = true, .deadline = options.deadline});
  if (!connection) return connection.error();
  auto select = (*connection)->prepare(fmt::format(kSelectSqliteJobs, *table));
  if (!select) return select.error();
  return std::unique_ptr<ObanTable>(std::make_unique<ObanInSqlite>(std::move(*connection), std::move(*select)));
}

}  // namespace run_recorder
