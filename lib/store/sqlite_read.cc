// Reads rows, history, chains, passes and dead letters in SQLite.
#include <fmt/format.h>

#include <algorithm>

#include "store/chain.h"
#include "store/migrations.h"
#include "store/paging.h"
#include "store/sqlite_store.h"
#include "store/text_match.h"

namespace run_recorder {

namespace {

// Of the ids from ?2 up to ?3; the plus leaves the order to its index, which has the ids too.
constexpr std::string_view kListReconciliations =
    "SELECT pass_id, recorder, \"trigger\", started_at, finished_at, report FROM \"{{prefix}}reconciliations\" "
    "WHERE +pass_id >= ?2 AND +pass_id < ?3 ORDER BY started_at DESC, pass_id DESC LIMIT ?1";
constexpr std::string_view kListReconciliationsAfter =
    "SELECT pass_id, recorder, \"trigger\", started_at, finished_at, report FROM \"{{prefix}}reconciliations\" "
    "WHERE +pass_id >= ?2 AND +pass_id < ?3 AND (started_at, pass_id) < (?4, ?5) "
    "ORDER BY started_at DESC, pass_id DESC LIMIT ?1";

constexpr std::string_view kChainRank =
    "SELECT run_id, parent_attempt_run_id, attempt, started_at FROM \"{{prefix}}runs\" WHERE run_id = ?1";

constexpr std::string_view kNoteRefusedRetry =
    "UPDATE \"{{prefix}}dead_letters\" SET tries = tries + 1, sqlstate = ?2, reason = ?3 WHERE id = ?1";
constexpr std::string_view kRemoveDeadLetter =
    "DELETE FROM \"{{prefix}}dead_letters\" WHERE id = ?1 RETURNING recorder";
constexpr std::string_view kCountRemoved =
    "UPDATE \"{{prefix}}recorders\" SET dead_letters = dead_letters - 1, "
    "dead_letters_removed = dead_letters_removed + 1 WHERE id = ?1";

}  // namespace

Result<std::optional<Run>> SqliteStore::find_run(std::string_view run_id) {
  static const std::string sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}runs\" r WHERE r.run_id = ?1", run_list(RunParts::kAll));
  if (auto begun = begin_call(); !begun) return begun.error();
  std::optional<Run> found;
  const auto on_row = [&found](const SqliteRows& row) {
    SqliteFields fields(row);
    found = read_run(fields, RunParts::kAll);
    return false;
  };
  if (auto done = read(sql, on_row, run_id); !done) return done.error();
  return found;
}

Result<EventPage> SqliteStore::list_events(std::string_view run_id, std::size_t limit, std::string_view cursor) {
  static const std::string sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}run_events\" WHERE run_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                  history_list());
  const auto after_seq = decode_number_cursor(cursor);
  if (!after_seq) return invalid_cursor(cursor);
  if (auto begun = begin_call(); !begun) return begun.error();
  EventPage page;
  std::size_t bytes = 0;
  const auto on_row = [&](const SqliteRows& row) {
    if (!page.events.empty() && (page.events.size() >= limit || bytes > kPageBytes)) {
      page.next = std::to_string(page.events.back().entry.seq);
      return false;
    }
    SqliteFields fields(row);
    bytes += page.events.emplace_back(read_event(fields)).entry.payload.size();
    return true;
  };
  if (auto done = read(sql, on_row, run_id, *after_seq, limit + 1); !done) return done.error();
  return page;
}

Result<ChainPage> SqliteStore::chain(std::string_view run_id, std::size_t limit, std::string_view cursor) {
  static const std::string row_sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}runs\" r WHERE r.run_id = ?1", run_list(RunParts::kWithoutData));
  // Their order first, then of the texts, which may be large, only what a page holds.
  std::vector<Run> order;
  const auto on_rank = [&order](const SqliteRows& row) {
    Run& run = order.emplace_back();
    run.run_id = row.text(0);
    run.parent_attempt_run_id = row.optional_text(1);
    run.attempt = static_cast<std::int32_t>(row.integer(2));
    run.started_at = row.time(3);
    return false;
  };
  ChainPage page;
  const auto cut = read_chain(run_id, kMaxChain, kChainRank, on_rank);
  if (!cut) return cut.error();
  page.truncated = *cut;
  sort_chain(order);
  const auto first = place_in_chain(order, cursor);
  if (!first) return first.error();
  std::size_t bytes = 0;
  const auto on_row = [&](const SqliteRows& row) {
    SqliteFields fields(row);
    bytes += weight_of(page.runs.emplace_back(read_run(fields, RunParts::kWithoutData)));
    return false;
  };
  for (std::size_t place = *first; place < order.size(); ++place) {
    if (page.runs.size() >= limit || bytes > kPageBytes) {
      page.next = chain_cursor(order, place - 1);
      break;
    }
    if (auto done = read(row_sql, on_row, order[place].run_id); !done) return done.error();
  }
  return page;
}

Result<ReconciliationPage> SqliteStore::list_reconciliations(std::size_t limit, std::string_view cursor,
                                                             std::string_view id_prefix) {
  std::optional<PagePlace> after;
  if (!cursor.empty()) {
    after = decode_cursor(cursor);
    if (!after) return invalid_cursor(cursor);
  }
  if (auto begun = begin_call(); !begun) return begun.error();
  ReconciliationPage page;
  PagePlace last;
  std::size_t bytes = 0;
  const auto on_row = [&](const SqliteRows& row) {
    if (!page.passes.empty() && (page.passes.size() >= limit || bytes > kPageBytes)) {
      page.next = encode_cursor(last);
      return false;
    }
    SqliteFields fields(row);
    const ReconciliationRow& pass = page.passes.emplace_back(read_reconciliation(fields));
    bytes += pass.report.size();
    last = {std::string(row.text(3)), pass.pass_id};
    return true;
  };
  const std::string above = above_prefix(id_prefix);
  const auto done = after
                        ? read(kListReconciliationsAfter, on_row, limit + 1, id_prefix, above, after->time, after->id)
                        : read(kListReconciliations, on_row, limit + 1, id_prefix, above);
  if (!done) return done.error();
  return page;
}

Result<std::map<Status, std::uint64_t>> SqliteStore::count_by_status() {
  static const std::string sql = fmt::format(
      "SELECT status, count(*) FROM (SELECT r.status FROM \"{{{{prefix}}}}runs\" r LIMIT {}) GROUP BY status",
      kCountedRows + 1);
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kRead);
  if (!transaction) return transaction.error();
  std::map<Status, std::uint64_t> counts;
  std::uint64_t rows = 0;
  const auto on_row = [&](const SqliteRows& row) {
    const auto count = static_cast<std::uint64_t>(row.integer(1));
    if (const auto status = parse_status(row.text(0))) counts[*status] = count;
    rows += count;
    return true;
  };
  if (auto done = read(sql, on_row); !done) return done.error();
  if (rows > kCountedRows) return count_in_part();
  return counts;
}

// Rows are numbered as they come, and those that are removed are among the oldest.
Result<std::map<Status, std::uint64_t>> SqliteStore::count_in_part() {
  static const std::string sql = fmt::format(
      "SELECT 'completed', (SELECT max(rowid) FROM \"{{{{prefix}}}}runs\") - (SELECT min(rowid) FROM \"{{{{prefix}}}}runs\") + 1 UNION ALL SELECT 'running', count(*) "
      "FROM (SELECT 1 FROM \"{{{{prefix}}}}runs\" INDEXED BY \"{{{{prefix}}}}runs_running\" WHERE status = 'running' "
      "LIMIT {0}) UNION ALL SELECT s.column1, (SELECT count(*) FROM (SELECT 1 FROM \"{{{{prefix}}}}runs\" INDEXED BY "
      "\"{{{{prefix}}}}runs_status\" WHERE status = s.column1 AND status IN ('queued', 'failed', 'cancelled', 'stuck') "
      "LIMIT {0})) FROM (VALUES ('queued'), ('failed'), ('cancelled'), ('stuck')) s",
      kCountedRows);
  std::map<Status, std::uint64_t> counts;
  std::int64_t completed = 0;
  const auto on_row = [&](const SqliteRows& row) {
    const auto status = parse_status(row.text(0));
    if (status == Status::kCompleted) {
      completed = row.integer(1);
    } else if (row.integer(1) > 0) {
      counts[*status] = static_cast<std::uint64_t>(row.integer(1));
      completed -= row.integer(1);
    }
    return true;
  };
  if (auto done = read(sql, on_row); !done) return done.error();
  counts[Status::kCompleted] = static_cast<std::uint64_t>(std::max<std::int64_t>(completed, 0));
  return counts;
}

// ---- dead letters

Result<DeadLetterPage> SqliteStore::list_dead_letters(std::size_t limit, std::string_view cursor) {
  static const std::string sql = fmt::format(
      "SELECT id, {} FROM \"{{{{prefix}}}}dead_letters\" WHERE id > ?1 ORDER BY id LIMIT ?2", kLetterColumns);
  const auto after = decode_number_cursor(cursor);
  if (!after) return invalid_cursor(cursor);
  if (auto begun = begin_call(); !begun) return begun.error();
  DeadLetterPage page;
  std::size_t bytes = 0;
  const auto on_row = [&](const SqliteRows& row) {
    if (!page.dead_letters.empty() && (page.dead_letters.size() >= limit || bytes > kPageBytes)) {
      page.next = std::to_string(page.dead_letters.back().id);
      return false;
    }
    SqliteFields fields(row);
    const DeadLetter& letter = page.dead_letters.emplace_back(read_dead_letter(fields));
    bytes += letter.record.size() + letter.line.size();
    return true;
  };
  if (auto done = read(sql, on_row, *after, limit + 1); !done) return done.error();
  return page;
}

Result<std::optional<DeadLetter>> SqliteStore::find_dead_letter(std::int64_t id) {
  static const std::string sql =
      fmt::format("SELECT id, {} FROM \"{{{{prefix}}}}dead_letters\" WHERE id = ?1", kLetterColumns);
  if (auto begun = begin_call(); !begun) return begun.error();
  std::optional<DeadLetter> letter;
  const auto on_row = [&letter](const SqliteRows& row) {
    SqliteFields fields(row);
    letter = read_dead_letter(fields);
    return false;
  };
  if (auto done = read(sql, on_row, id); !done) return done.error();
  return letter;
}

Result<void> SqliteStore::note_refused_retry(std::int64_t id, std::string_view sqlstate, std::string_view reason) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto noted = write(kNoteRefusedRetry, id, sqlstate, reason);
  if (!noted) return noted.error();
  return {};
}

Result<bool> SqliteStore::remove_dead_letter(std::int64_t id) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  std::optional<std::string> recorder;
  const auto on_row = [&recorder](const SqliteRows& row) {
    recorder = row.text(0);
    return true;
  };
  if (auto done = read(kRemoveDeadLetter, on_row, id); !done) return done.error();
  if (!recorder) return false;
  if (auto counted = write(kCountRemoved, *recorder); !counted) return counted.error();
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

}  // namespace run_recorder
