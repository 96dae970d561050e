// What a pass of the reconciliation reads and writes in SQLite.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/json_text.h"
#include "base/json_writer.h"
#include "store/sqlite_store.h"
#include "store/transition_sql.h"

namespace run_recorder {

namespace {

// Rows that one transaction of an undo returns.
constexpr std::size_t kSqliteUndoBatch = 500;

constexpr std::string_view kAcquire =
    "INSERT INTO \"{{prefix}}leases\" (name, holder, expires_at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE "
    "SET holder = excluded.holder, expires_at = excluded.expires_at WHERE holder = excluded.holder OR expires_at <= "
    "?4";
constexpr std::string_view kRelease = "DELETE FROM \"{{prefix}}leases\" WHERE name = ?1 AND holder = ?2";

// To the status ?5, which it had by the evidence.
std::string unmark_sql() {
  const BulkTransition to = undo_transition(Status::kRunning, {});  // but for the status the same as to queued
  return fmt::format(
      "UPDATE \"{{{{prefix}}}}runs\" SET status = ?5{}{}{}{}, updated_at = ?4, last_seq = last_seq + {} "
      "WHERE run_id = ?1 AND status = '{}' AND stuck_pass = ?3 AND last_seq = ?2 AND "
      "(coalesce(json_extract(error, '$.evidence.status'), '') = '{}') = (?5 = '{}')",
      assignment("error", to.outcome, {}), assignment("oban_job_state_at_finalize", to.outcome, {}),
      assignment("finalized_at", to.finalized_at, "?4"), assignment("last_event_at", to.last_event_at, "?4"),
      to.seq_step, to_string(stuck_transition().status), to_string(Status::kQueued), to_string(Status::kQueued));
}

// By the row's number: an application's id may be a UUID.
std::string marked_by_sql() {
  return fmt::format(
      "SELECT rowid, run_id, seq FROM \"{{{{prefix}}}}run_events\" WHERE pass_id = ?1 AND type = '{}' AND "
      "rowid > ?2 ORDER BY rowid LIMIT ?3",
      stuck_transition().type);
}
constexpr std::string_view kPassExists =
    "SELECT 1 FROM \"{{prefix}}reconciliations\" WHERE pass_id = ?1 UNION ALL "
    "SELECT 1 FROM \"{{prefix}}run_events\" WHERE pass_id = ?1 LIMIT 1";

constexpr std::string_view kSavePass =
    "INSERT INTO \"{{prefix}}reconciliations\" (pass_id, recorder, \"trigger\", started_at, finished_at, report) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (pass_id) DO UPDATE SET recorder = excluded.recorder, "
    "\"trigger\" = excluded.\"trigger\", started_at = excluded.started_at, finished_at = excluded.finished_at, "
    "report = excluded.report";

// After the columns of a bare run: when its recorder was seen, whether an event of it is a dead letter, and when its
// last event was applied.
std::string running_row_sql(std::string_view where) {
  return fmt::format(
      "SELECT {}, w.last_seen, EXISTS (SELECT 1 FROM \"{{{{prefix}}}}dead_letters\" d WHERE d.run_id = r.run_id), {} "
      "FROM \"{{{{prefix}}}}runs\" r LEFT JOIN \"{{{{prefix}}}}recorders\" w ON w.id = r.recorder WHERE {}",
      run_list(RunParts::kBare), kLastEventAt, where);
}

std::string rows_within_sql(std::string_view which, std::string_view but_for = {}) {
  return running_row_sql(
      fmt::format("{0} AND r.run_id > ?1 AND ({1} <= ?2 OR {1} > ?3) AND {1} >= ?4{2} ORDER BY r.run_id "
                  "LIMIT ?5",
                  which, kLastEventAt, but_for));
}

// Whether running_groups() counts a run r in a group.
std::string in_a_group_sql(bool with_jobs) {
  return fmt::format("NOT EXISTS (SELECT 1 FROM \"{{{{prefix}}}}dead_letters\" d WHERE d.run_id = r.run_id){}",
                     with_jobs ? "" : " AND r.oban_job_id IS NULL AND r.job_id IS NULL");
}

// ?6: an array of groups as arrays.
std::string rows_without_groups_sql(bool with_jobs) {
  return rows_within_sql(
      judged_rows(Status::kRunning),
      fmt::format(
          " AND NOT ({} AND (r.recorder, r.worker_process, r.sender_process, r.connection, r.expires_in IS NOT "
          "NULL) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), "
          "json_extract(value, '$[3]'), json_extract(value, '$[4]') FROM json_each(?6)))",
          in_a_group_sql(with_jobs)));
}

std::string running_groups_sql(bool with_jobs) {
  return fmt::format(
      "SELECT recorder, worker_process, sender_process, connection, expires, rows, grouped, sum(rows) OVER () FROM "
      "(SELECT r.recorder, r.worker_process, r.sender_process, r.connection, r.expires_in IS NOT NULL AS expires, {0} "
      "AS grouped, count(*) AS rows FROM \"{{{{prefix}}}}runs\" r WHERE {1} AND ({2} <= ?1 OR {2} > ?2) AND {2} >= ?3 "
      "GROUP BY 1, 2, 3, 4, 5, 6) ORDER BY grouped DESC, rows DESC, connection LIMIT ?4",
      in_a_group_sql(with_jobs), judged_rows(Status::kRunning), kLastEventAt);
}

std::string count_since_sql(std::string_view which) {
  return fmt::format(
      "SELECT count(*) FROM \"{{{{prefix}}}}runs\" r WHERE {0} AND {1} > ?1 AND (?2 IS NULL OR {1} <= ?2)", which,
      kLastEventAt);
}

std::string not_before(const EventWindow& window) {
  return window.not_before ? format_rfc3339(*window.not_before) : std::string();
}

std::chrono::milliseconds since(Timestamp then, Timestamp now) {
  return std::max(std::chrono::milliseconds(0), std::chrono::duration_cast<std::chrono::milliseconds>(now - then));
}

HistoryEntry entry_of(const BulkTransition& transition, std::string_view run_id, std::int64_t last_seq,
                      const JsonText& payload, std::string_view pass_id, Timestamp now) {
  HistoryEntry entry;
  entry.run_id = run_id;
  entry.seq = last_seq + transition.seq_step;
  entry.type = transition.type;
  entry.payload = payload;
  entry.received_at = now;
  entry.effect = transition.effect;
  entry.pass_id = pass_id;
  return entry;
}

}  // namespace

Result<bool> SqliteStore::acquire_lease(std::string_view name, std::string_view holder,
                                        std::chrono::milliseconds expiry) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const Timestamp now = clock_();
  const auto taken = write(kAcquire, name, holder, now + expiry, now);
  if (!taken) return taken.error();
  return *taken == 1;
}

Result<void> SqliteStore::release_lease(std::string_view name, std::string_view holder) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto released = write(kRelease, name, holder);
  if (!released) return released.error();
  return {};
}

RunningRow SqliteStore::read_running_row(const SqliteRows& row, Timestamp now) const {
  SqliteFields fields(row);
  RunningRow running;
  running.run = read_run(fields, RunParts::kBare);
  if (const auto seen = fields.time()) running.recorder_seen_ago = since(*seen, now);
  running.dead_letter = fields.boolean();
  running.last_event = fields.text();
  const Timestamp last_event = parse_sqlite_time(running.last_event).value_or(now);
  running.silence = since(last_event, now);
  running.in_future = last_event > now;
  return running;
}

template <class... Values>
Result<std::vector<RunningRow>> SqliteStore::read_running_rows(std::string_view sql, const Values&... values) {
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  std::vector<RunningRow> rows;
  const Timestamp now = clock_();
  const auto on_row = [&](const SqliteRows& row) {
    rows.push_back(read_running_row(row, now));
    return true;
  };
  if (auto done = read(sql, on_row, values...); !done) return done.error();
  return rows;
}

Result<std::vector<RunningRow>> SqliteStore::rows_within(std::string_view sql, std::string_view after,
                                                         std::size_t limit, const EventWindow& window) {
  return read_running_rows(sql, after, window.before, window.ahead_of, not_before(window), limit);
}

Result<RunningGroups> SqliteStore::running_groups(const EventWindow& window, bool with_jobs, std::size_t limit) {
  static const std::string sql[2] = {running_groups_sql(false), running_groups_sql(true)};
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  RunningGroups found;
  found.with_jobs = with_jobs;
  const auto on_row = [&found](const SqliteRows& row) {
    SqliteFields fields(row);
    add_group(found, fields);
    return true;
  };
  if (auto done = read(sql[with_jobs ? 1 : 0], on_row, window.before, window.ahead_of, not_before(window), limit);
      !done)
    return done.error();
  return found;
}

Result<std::vector<RunningRow>> SqliteStore::running_rows(std::string_view after, std::size_t limit,
                                                          const EventWindow& window, const RunningGroups& without) {
  static const std::string all = rows_within_sql(judged_rows(Status::kRunning));
  static const std::string some[2] = {rows_without_groups_sql(false), rows_without_groups_sql(true)};
  if (without.groups.empty()) return rows_within(all, after, limit, window);
  const JsonText groups = json_array(without.groups, [](const RunningGroup& group) {
    const std::array<std::string_view, 4> texts{group.recorder, group.worker_process, group.sender_process,
                                                group.connection};
    JsonText list = json_list(texts);
    list.back() = ',';
    return list + (group.expires ? "1]" : "0]");
  });
  return read_running_rows(some[without.with_jobs ? 1 : 0], after, window.before, window.ahead_of, not_before(window),
                           limit, groups);
}

Result<std::vector<RunningRow>> SqliteStore::queued_rows(std::string_view after, std::size_t limit,
                                                         const EventWindow& window) {
  static const std::string sql = rows_within_sql(judged_rows(Status::kQueued));
  return rows_within(sql, after, limit, window);
}

Result<std::uint64_t> SqliteStore::count_since(std::string_view sql, Timestamp after,
                                               std::optional<Timestamp> until) {
  if (auto begun = begin_call(); !begun) return begun.error();
  std::uint64_t count = 0;
  const auto on_row = [&count](const SqliteRows& row) {
    count = static_cast<std::uint64_t>(row.integer(0));
    return false;
  };
  if (auto done = read(sql, on_row, after, until); !done) return done.error();
  return count;
}

Result<std::uint64_t> SqliteStore::count_running_since(Timestamp after, std::optional<Timestamp> until) {
  static const std::string sql = count_since_sql(judged_rows(Status::kRunning));
  return count_since(sql, after, until);
}

Result<std::uint64_t> SqliteStore::count_queued_since(Timestamp after) {
  static const std::string sql = count_since_sql(judged_rows(Status::kQueued));
  return count_since(sql, after, std::nullopt);
}

Result<RunningCouncils> SqliteStore::running_councils(std::size_t limit) {
  static const std::string sql = fmt::format(
      "SELECT r.council, count(*), sum(count(*)) OVER () FROM (SELECT r.council FROM \"{{{{prefix}}}}runs\" r WHERE {} "
      "LIMIT {}) r GROUP BY r.council ORDER BY 2 DESC, 1 LIMIT ?1",
      judged_rows(Status::kRunning), kCountedRows);
  if (auto begun = begin_call(); !begun) return begun.error();
  RunningCouncils running;
  const auto on_row = [&running](const SqliteRows& row) {
    SqliteFields fields(row);
    add_running(running, fields);
    return true;
  };
  if (auto done = read(sql, on_row, limit); !done) return done.error();
  return running;
}

// The two kinds of runs are read by one index, which has both by their times.
Result<std::vector<RecentCouncil>> SqliteStore::recent_councils(std::string_view recorder, std::size_t rows,
                                                                std::size_t limit) {
  static const std::string sql = fmt::format(
      "SELECT council, max(min(run_recorder_time(started_at), run_recorder_time(inserted_at))), max(CASE WHEN status = "
      "'{}' THEN min(run_recorder_time(finalized_at), run_recorder_time(updated_at)) END) FROM (SELECT council, status, "
      "recorder, started_at, inserted_at, finalized_at, updated_at FROM \"{{{{prefix}}}}runs\" r ORDER BY "
      "coalesce(r.started_at, r.inserted_at) DESC LIMIT ?1) WHERE recorder IN (?2, '') GROUP BY council "
      "ORDER BY count(*) DESC, 2 DESC, 1 LIMIT ?3",
      to_string(Status::kCompleted));
  if (auto begun = begin_call(); !begun) return begun.error();
  std::vector<RecentCouncil> councils;
  const auto on_row = [&councils](const SqliteRows& row) {
    SqliteFields fields(row);
    councils.push_back(read_recent_council(fields));
    return true;
  };
  if (auto done = read(sql, on_row, rows, recorder, limit); !done) return done.error();
  return councils;
}

Result<std::vector<RunningRow>> SqliteStore::running_rows_of(std::span<const std::string> processes,
                                                             std::span<const std::string> connections,
                                                             std::string_view after, std::size_t limit) {
  static const std::string sql = running_row_sql(fmt::format(
      "{} AND r.run_id > ?1 AND (r.worker_process IN (SELECT value FROM json_each(?2)) OR r.sender_process IN "
      "(SELECT "
      "value FROM json_each(?2)) OR r.connection IN (SELECT value FROM json_each(?3))) ORDER BY r.run_id LIMIT ?4",
      judged_rows(Status::kRunning)));
  return read_running_rows(sql, after, json_list(processes), json_list(connections), limit);
}

Result<std::vector<RunningRow>> SqliteStore::long_running(Timestamp started_until, std::string_view after,
                                                          std::size_t limit) {
  static const std::string sql = running_row_sql(fmt::format(
      "r.status = '{}' AND r.run_id > ?1 AND run_recorder_time(r.started_at) <= ?2 ORDER BY r.run_id LIMIT ?3",
      to_string(Status::kRunning)));
  return read_running_rows(sql, after, started_until, limit);
}

Result<std::vector<RunningRow>> SqliteStore::rows_named(std::span<const std::string> run_ids) {
  static const std::string sql = running_row_sql("r.run_id IN (SELECT value FROM json_each(?1))");
  return read_running_rows(sql, json_list(run_ids));
}

Result<std::optional<RunningRow>> SqliteStore::running_row(std::string_view run_id) {
  static const std::string sql = running_row_sql("r.run_id = ?1");
  if (auto begun = begin_call(); !begun) return begun.error();
  std::optional<RunningRow> found;
  const auto on_row = [&](const SqliteRows& row) {
    found = read_running_row(row, clock_());
    return false;
  };
  if (auto done = read(sql, on_row, run_id); !done) return done.error();
  return found;
}

Result<std::vector<std::string>> SqliteStore::mark_stuck(const RecorderSelf& self, std::string_view pass_id,
                                                         std::span<const StuckMark> marks) {
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  std::vector<std::string> marked;
  for (const StuckMark& mark : marks) {
    const auto done = mark_one(self, pass_id, mark, now);
    if (!done) return done.error();
    if (*done) marked.push_back(mark.run_id);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return marked;
}

Result<bool> SqliteStore::mark_one(const RecorderSelf& self, std::string_view pass_id, const StuckMark& mark,
                                   Timestamp now) {
  static const BulkTransition to = stuck_transition();
  static const std::string sql = fmt::format(
      "UPDATE \"{{{{prefix}}}}runs\" AS r SET status = '{}'{}{}{}{}, updated_at = ?4, stuck_pass = ?3, "
      "last_seq = ?2 + {} WHERE run_id = ?1 AND status = ?7 AND (?8 IS NULL OR {} = ?8) AND {}",
      to_string(to.status), assignment("error", to.outcome, {}, "?5"),
      assignment("oban_job_state_at_finalize", to.outcome, {}, "?6"),
      assignment("finalized_at", to.finalized_at, "?4"), assignment("last_event_at", to.last_event_at, "?4"),
      to.seq_step, kLastEventAt, kSameVersion);
  const auto marked = write(sql, mark.run_id, mark.expected_last_seq, pass_id, now, mark.error, mark.job_state,
                            to_string(mark.expected_status), mark.expected_last_event);
  if (!marked) return marked.error();
  if (*marked == 0) return false;
  const HistoryEntry entry = entry_of(to, mark.run_id, mark.expected_last_seq, mark.error, pass_id, now);
  const auto written = write_history(entry, self.id, now);
  if (!written) return written.error();
  if (!*written) {
    return Error{ErrorKind::kUnavailable, fmt::format("the history of run {} goes beyond its row", mark.run_id)};
  }
  return true;
}

// Each transaction has the whole deadline for itself: a pass may have marked a million rows.
Result<Store::Undone> SqliteStore::undo_pass(const RecorderSelf& self, std::string_view pass_id) {
  struct Marked {
    std::int64_t id;
    std::string run_id;
    std::int64_t seq;
  };
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  const auto exists = finds(kPassExists, pass_id);
  if (!exists) return exists.error();
  if (!*exists) return Error{ErrorKind::kNotFound, fmt::format("there is no pass {}", pass_id)};
  static const std::string marked_by = marked_by_sql();
  Undone undone;
  std::int64_t last_id = 0;
  while (true) {
    if (auto begun = begin_call(); !begun) return begun.error();
    auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
    if (!transaction) return transaction.error();
    std::vector<Marked> batch;
    const auto on_row = [&batch](const SqliteRows& row) {
      batch.push_back({row.integer(0), std::string(row.text(1)), row.integer(2)});
      return true;
    };
    if (auto done = read(marked_by, on_row, pass_id, last_id, kSqliteUndoBatch); !done) return done.error();
    if (batch.empty()) return undone;
    const Timestamp now = clock_();
    Undone in_batch;
    for (const Marked& marked : batch) {
      const auto done = undo_one(self, pass_id, marked.run_id, marked.seq, now);
      if (!done) return done.error();
      ++(*done ? in_batch.undone : in_batch.moved);
    }
    if (auto done = transaction->commit(); !done) return done.error();
    undone.undone += in_batch.undone;
    undone.moved += in_batch.moved;
    last_id = batch.back().id;
  }
}

Result<bool> SqliteStore::undo_one(const RecorderSelf& self, std::string_view pass_id, std::string_view run_id,
                                   std::int64_t marked_seq, Timestamp now) {
  static const std::string sql = unmark_sql();
  Status status = Status::kRunning;
  auto returned = write(sql, run_id, marked_seq, pass_id, now, to_string(status));
  if (returned && *returned == 0) {
    status = Status::kQueued;
    returned = write(sql, run_id, marked_seq, pass_id, now, to_string(status));
  }
  if (!returned) return returned.error();
  if (*returned == 0) return false;
  const UndoTransition to = undo_transition(status, pass_id);
  const HistoryEntry entry = entry_of(to, run_id, marked_seq, to.payload, pass_id, now);
  const auto written = write_history(entry, self.id, now);
  if (!written) return written.error();
  if (!*written)
    return Error{ErrorKind::kUnavailable, fmt::format("the history of run {} goes beyond its row", run_id)};
  return true;
}

Result<void> SqliteStore::save_reconciliation(const ReconciliationRow& row) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto saved =
      write(kSavePass, row.pass_id, row.recorder, row.trigger, row.started_at, row.finished_at, row.report);
  if (!saved) return saved.error();
  return {};
}

}  // namespace run_recorder
