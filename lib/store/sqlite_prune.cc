// What the retention reads and removes in SQLite.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/json_writer.h"
#include "store/paging.h"
#include "store/sqlite_store.h"
#include "store/transition_sql.h"

namespace run_recorder {

namespace {

// The columns for read_aged_row, in its order. A finding is made by a writing of the row, not by an event: the row
// may have been silent for months by then.
const std::string& aged_row_list() {
  static const std::string list = fmt::format(
      "r.run_id, r.council, r.status, r.last_seq, CASE WHEN r.status = '{1}' THEN "
      "coalesce(run_recorder_time(r.updated_at), {0}) ELSE {0} END, r.parent_attempt_run_id IS NOT NULL OR EXISTS "
      "(SELECT 1 FROM "
      "\"{{{{prefix}}}}runs\" c WHERE c.parent_attempt_run_id = r.run_id), "
      "EXISTS (SELECT 1 FROM \"{{{{prefix}}}}dead_letters\" d WHERE d.run_id = r.run_id)",
      kLastEventAt, to_string(Status::kStuck));
  return list;
}
constexpr int kAgedColumns = 7;

AgedRow read_aged_row(const SqliteRows& row, Timestamp now) {
  AgedRow aged;
  aged.run_id = row.text(0);
  aged.council = row.text(1);
  aged.status = parse_status(row.text(2)).value_or(Status::kQueued);
  aged.last_seq = row.integer(3);
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(now - row.time(4).value_or(now));
  aged.age = std::max(std::chrono::milliseconds(0), age);
  aged.linked = row.integer(5) != 0;
  aged.dead_letter = row.integer(6) != 0;
  return aged;
}

const std::string& may_go_sql() {
  static const std::string sql = fmt::format(
      "SELECT 1 FROM \"{{{{prefix}}}}runs\" WHERE run_id = ?1 AND last_seq = ?2 AND status IN ({}) "
      "AND NOT EXISTS (SELECT 1 FROM \"{{{{prefix}}}}dead_letters\" WHERE run_id = ?1)",
      sql_list(terminal_statuses()));
  return sql;
}
constexpr std::string_view kChildren = "SELECT run_id FROM \"{{prefix}}runs\" WHERE parent_attempt_run_id = ?1";
constexpr std::string_view kRemember =
    "INSERT INTO \"{{prefix}}pruned\" (run_id, pruned_at) VALUES (?1, ?2) "
    "ON CONFLICT (run_id) DO UPDATE SET pruned_at = excluded.pruned_at";
constexpr std::string_view kDeleteHistory = "DELETE FROM \"{{prefix}}run_events\" WHERE run_id = ?1";
constexpr std::string_view kDeleteRun = "DELETE FROM \"{{prefix}}runs\" WHERE run_id = ?1";
constexpr std::string_view kForget =
    "DELETE FROM \"{{prefix}}pruned\" WHERE run_id IN (SELECT run_id FROM \"{{prefix}}pruned\" WHERE pruned_at < ?1 "
    "ORDER BY pruned_at LIMIT ?2)";

constexpr std::string_view kAgedPasses =
    "SELECT c.pass_id, c.\"trigger\", run_recorder_time(c.started_at), length(c.report), CASE WHEN EXISTS (SELECT 1 "
    "FROM \"{{prefix}}run_events\" e WHERE e.pass_id = c.pass_id) THEN 1 WHEN json_valid(c.report) THEN "
    "json_type(c.report, '$.marked') = 'integer' AND json_extract(c.report, '$.marked') > 0 ELSE 0 END, c.started_at "
    "FROM \"{{prefix}}reconciliations\" c WHERE (c.started_at, c.pass_id) < (?1, ?2) "
    "ORDER BY c.started_at DESC, c.pass_id DESC LIMIT ?3";
constexpr int kPassTime = 2, kPassBytes = 3, kPassMarked = 4, kPassPlace = 5;
constexpr std::string_view kRemovePass = "DELETE FROM \"{{prefix}}reconciliations\" WHERE pass_id = ?1";
constexpr std::string_view kKeepPositions =
    "UPDATE \"{{prefix}}positions\" SET updated_at = ?3 WHERE recorder = ?1 AND incarnation IN (SELECT value FROM "
    "json_each(?2)) AND updated_at < ?4";
constexpr std::string_view kForgetPositions =
    "DELETE FROM \"{{prefix}}positions\" WHERE (recorder, incarnation) IN (SELECT recorder, incarnation FROM (SELECT "
    "recorder, incarnation, updated_at, row_number() OVER (PARTITION BY recorder ORDER BY updated_at DESC, incarnation) "
    "AS place FROM \"{{prefix}}positions\") x WHERE updated_at < ?1 AND (place > ?2 OR NOT EXISTS (SELECT 1 FROM "
    "\"{{prefix}}recorders\" w WHERE w.id = x.recorder)) ORDER BY updated_at LIMIT ?3)";
constexpr std::string_view kForgetPositionsOf = "DELETE FROM \"{{prefix}}positions\" WHERE recorder = ?1";
constexpr std::string_view kForgetRecorder = "DELETE FROM \"{{prefix}}recorders\" WHERE id = ?1";

const std::string& old_recorders_sql() {
  static const std::string sql = [] {
    std::string text =
        "SELECT w.id FROM \"{{prefix}}recorders\" w WHERE w.last_seen < ?1 "
        "AND w.id NOT IN (SELECT recorder FROM \"{{prefix}}dead_letters\") "
        "AND NOT EXISTS (SELECT 1 FROM \"{{prefix}}positions\" p WHERE p.recorder = w.id AND p.updated_at >= ?1) ";
    for (const Status status : {Status::kRunning, Status::kQueued}) {
      text += fmt::format("AND w.id NOT IN (SELECT r.recorder FROM \"{{{{prefix}}}}runs\" r WHERE {}) ",
                          judged_rows(status));
    }
    return text + "ORDER BY w.last_seen LIMIT ?2";
  }();
  return sql;
}

}  // namespace

Result<AgedPage> SqliteStore::aged_rows(Timestamp before, std::size_t limit, std::string_view cursor) {
  // Other writers' times may have another form; their day compares alike, and the age is judged from the row itself.
  static const std::string sql = fmt::format(
      "SELECT {}, r.inserted_at FROM \"{{{{prefix}}}}runs\" r WHERE r.inserted_at < ?1 "
      "AND (r.inserted_at, r.run_id) > (?2, ?3) ORDER BY r.inserted_at, r.run_id LIMIT ?4",
      aged_row_list());
  PagePlace after;
  if (!cursor.empty()) {
    const auto place = decode_cursor(cursor);
    if (!place) {
      return invalid_cursor(cursor);
    }
    after = *place;
  }
  if (auto begun = begin_call(); !begun) return begun.error();
  const Timestamp now = clock_();
  AgedPage page;
  std::string last_time;
  const auto on_row = [&](const SqliteRows& row) {
    page.rows.push_back(read_aged_row(row, now));
    last_time = row.text(kAgedColumns);
    return true;
  };
  if (auto done = read(sql, on_row, before, after.time, after.id, limit); !done) return done.error();
  if (page.rows.size() == limit) page.next = encode_cursor({last_time, page.rows.back().run_id});
  return page;
}

Result<std::vector<AgedRow>> SqliteStore::aged_chain(std::string_view run_id, std::size_t limit) {
  static const std::string row_sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}runs\" r WHERE r.run_id = ?1", aged_row_list());
  const Timestamp now = clock_();
  std::vector<AgedRow> chain;
  const auto on_row = [&](const SqliteRows& row) {
    chain.push_back(read_aged_row(row, now));
    return false;
  };
  if (auto done = read_chain(run_id, limit, row_sql, on_row); !done) return done.error();
  return chain;
}

Result<Pruned> SqliteStore::prune(std::span<const std::vector<AgedRow>> chains) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  Pruned pruned;
  for (const std::vector<AgedRow>& chain : chains) {
    const auto may = may_go(chain);
    if (!may) return may.error();
    if (!*may) continue;
    for (const AgedRow& row : chain) {
      if (auto done = write(kRemember, row.run_id, now); !done) return done.error();
      const auto events = write(kDeleteHistory, row.run_id);
      if (!events) return events.error();
      if (auto done = write(kDeleteRun, row.run_id); !done) return done.error();
      ++pruned.runs;
      pruned.events += static_cast<std::uint64_t>(*events);
    }
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return pruned;
}

Result<bool> SqliteStore::may_go(const std::vector<AgedRow>& chain) {
  std::set<std::string_view> members;
  for (const AgedRow& row : chain) members.insert(row.run_id);
  for (const AgedRow& row : chain) {
    bool alone = true;
    const auto on_child = [&](const SqliteRows& child) {
      alone = members.contains(child.text(0));
      return alone;
    };
    const auto as_read = finds(may_go_sql(), row.run_id, row.last_seq);
    if (!as_read) return as_read.error();
    if (auto done = read(kChildren, on_child, row.run_id); !done) return done.error();
    if (!*as_read || !alone) return false;
  }
  return true;
}

Result<std::vector<std::string>> SqliteStore::pruned(std::span<const std::string> run_ids) {
  if (auto begun = begin_call(); !begun) return begun.error();
  std::vector<std::string> remembered;
  for (const std::string& run_id : run_ids) {
    const auto found = finds(kIsPruned, run_id);
    if (!found) return found.error();
    if (*found) remembered.push_back(run_id);
  }
  return remembered;
}

Result<std::uint64_t> SqliteStore::forget_pruned(std::chrono::milliseconds older_than, std::size_t limit) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto forgotten = write(kForget, clock_() - older_than, limit);
  if (!forgotten) return forgotten.error();
  return static_cast<std::uint64_t>(*forgotten);
}

// ---- the recorder's own tables

Result<AgedPassPage> SqliteStore::aged_passes(std::size_t limit, std::string_view cursor) {
  PagePlace after{"~", ""};  // behind every time
  if (!cursor.empty()) {
    const auto place = decode_cursor(cursor);
    if (!place) return invalid_cursor(cursor);
    after = *place;
  }
  if (auto begun = begin_call(); !begun) return begun.error();
  const Timestamp now = clock_();
  AgedPassPage page;
  std::string last_time;
  const auto on_row = [&](const SqliteRows& row) {
    AgedPass pass;
    pass.pass_id = row.text(0);
    pass.trigger = row.text(1);
    const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(now - row.time(kPassTime).value_or(now));
    pass.age = std::max(std::chrono::milliseconds(0), age);
    pass.bytes = static_cast<std::uint64_t>(row.integer(kPassBytes));
    pass.marked = row.integer(kPassMarked) != 0;
    last_time = row.text(kPassPlace);
    page.passes.push_back(std::move(pass));
    return true;
  };
  if (auto done = read(kAgedPasses, on_row, after.time, after.id, limit); !done) return done.error();
  if (page.passes.size() == limit) page.next = encode_cursor({last_time, page.passes.back().pass_id});
  return page;
}

Result<std::uint64_t> SqliteStore::remove_passes(std::span<const std::string> pass_ids) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  std::uint64_t removed = 0;
  for (const std::string& pass_id : pass_ids) {
    const auto gone = write(kRemovePass, pass_id);
    if (!gone) return gone.error();
    removed += static_cast<std::uint64_t>(*gone);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return removed;
}

Result<void> SqliteStore::keep_positions(const std::string& origin, std::span<const std::string> incarnations) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const Timestamp now = clock_();
  const auto kept = write(kKeepPositions, origin, json_list(incarnations), now, now - kPositionsRenewed);
  if (!kept) return kept.error();
  return {};
}

Result<std::uint64_t> SqliteStore::forget_positions(std::chrono::milliseconds unused_for, std::size_t spare,
                                                    std::size_t limit) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto forgotten = write(kForgetPositions, clock_() - unused_for, spare, limit);
  if (!forgotten) return forgotten.error();
  return static_cast<std::uint64_t>(*forgotten);
}

Result<ForgottenRecorders> SqliteStore::forget_recorders(std::chrono::milliseconds unseen_for, std::size_t limit) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  std::vector<std::string> old;
  const auto on_row = [&old](const SqliteRows& row) {
    old.emplace_back(row.text(0));
    return true;
  };
  if (auto done = read(old_recorders_sql(), on_row, clock_() - unseen_for, limit); !done) return done.error();
  ForgottenRecorders forgotten;
  for (const std::string& id : old) {
    const auto positions = write(kForgetPositionsOf, id);
    if (!positions) return positions.error();
    if (auto done = write(kForgetRecorder, id); !done) return done.error();
    ++forgotten.recorders;
    forgotten.positions += static_cast<std::uint64_t>(*positions);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return forgotten;
}

}  // namespace run_recorder
