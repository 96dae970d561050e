// Reads rows, history, chains, passes and dead letters in SQLite.
#include <fmt/format.h>

#include "run/job.h"
#include "store/chain.h"
#include "store/migrations.h"
#include "store/paging.h"
#include "store/sqlite_store.h"
#include "store/text_match.h"
#include "store/transition_sql.h"

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

constexpr std::string_view kCountByStatus = "SELECT status, count(*) FROM \"{{prefix}}runs\" GROUP BY status";

constexpr std::string_view kNoteRefusedRetry =
    "UPDATE \"{{prefix}}dead_letters\" SET tries = tries + 1, sqlstate = ?2, reason = ?3 WHERE id = ?1";
constexpr std::string_view kRemoveDeadLetter =
    "DELETE FROM \"{{prefix}}dead_letters\" WHERE id = ?1 RETURNING recorder";
constexpr std::string_view kCountRemoved =
    "UPDATE \"{{prefix}}recorders\" SET dead_letters = dead_letters - 1, "
    "dead_letters_removed = dead_letters_removed + 1 WHERE id = ?1";

// The WHERE of a filter, with a ? for each of texts.
struct Condition {
  std::string sql;
  std::vector<std::string> texts;
  void also(std::string_view part) { sql += fmt::format("{}{}", sql.empty() ? " WHERE " : " AND ", part); }
  void also(std::string_view part, std::string text) {
    also(part);
    texts.push_back(std::move(text));
  }
};

// As the index has it.
std::string_view moment_of(RunOrder by) {
  return by == RunOrder::kStarted ? "coalesce(r.started_at, r.inserted_at)" : "r.inserted_at";
}

void require_outcome(Condition& condition, const RunFilter& filter) {
  if (filter.longer_than) {
    condition.also(fmt::format(
        "r.status <> 'stuck' AND (julianday(coalesce(run_recorder_time(r.finalized_at), CASE WHEN r.status = "
        "'running' THEN 'now' END)) - julianday(run_recorder_time(r.started_at))) * 86400000.0 > {}",
        filter.longer_than->count()));
  }
  if (filter.error_text) condition.also("run_recorder_strings_hold(r.error, ?)", *filter.error_text);
  if (filter.exit_status) {
    condition.also(fmt::format(
        "(CASE WHEN json_valid(r.error) THEN EXISTS (SELECT 1 FROM json_tree(r.error, '$.errors') t WHERE t.key = "
        "'exit_status' AND t.type = 'integer' AND t.atom = {0}) ELSE 0 END OR CASE WHEN json_valid(r.result) THEN "
        "coalesce(json_extract(r.result, '$.exit_status') = {0}, 0) ELSE 0 END)",
        *filter.exit_status));
  }
}

Condition condition_of(const RunFilter& filter, const std::optional<PagePlace>& after) {
  const std::string_view moment = moment_of(filter.by);
  Condition condition;
  if (!filter.statuses.empty()) {
    condition.also(fmt::format("r.status IN ({})", sql_list(filter.statuses)));
  }
  if (filter.council) condition.also("r.council = ?", *filter.council);
  for (const auto& [column, pattern] : column_patterns(filter)) {
    if (pattern) condition.also(fmt::format("r.{} GLOB ?", column), glob_pattern(*pattern));
  }
  if (filter.id_prefix) {
    condition.also(fmt::format("r.run_id IN (SELECT p.run_id FROM \"{{{{prefix}}}}runs\" p WHERE p.run_id >= ? AND "
                               "p.run_id < ? ORDER BY p.run_id LIMIT {})",
                               kPrefixIds),
                   *filter.id_prefix);
    condition.texts.push_back(above_prefix(*filter.id_prefix));
  }
  if (filter.oban_job_id) condition.also(fmt::format("r.oban_job_id = {}", *filter.oban_job_id));
  if (filter.job) {
    // An integer's rows have it as oban_job_id, whoever wrote them; each way has an index of its own.
    if (const auto number = job_number(*filter.job)) {
      condition.also(fmt::format("r.oban_job_id = {}", *number));
    } else {
      condition.also("r.job_id = ? AND r.oban_job_id IS NULL", *filter.job);
    }
  }
  if (filter.queue) {
    condition.also(*filter.queue == kDefaultQueue ? "(r.queue = ? OR (r.queue IS NULL AND (r.job_id IS NOT NULL OR "
                                                    "r.oban_job_id IS NOT NULL)))"
                                                  : "r.queue = ?",
                   *filter.queue);
  }
  if (filter.pass) {
    condition.also(fmt::format("r.run_id IN (SELECT e.run_id FROM \"{{{{prefix}}}}run_events\" e WHERE "
                               "e.pass_id = ? AND e.type = '{}')",
                               kStuckEvent),
                   *filter.pass);
  }
  require_outcome(condition, filter);
  if (filter.since) {
    const std::string since = format_rfc3339(*filter.since);
    // The day serves the index whatever form the time has; the function judges the form.
    condition.also(fmt::format("{} >= ?", moment), since.substr(0, 10));
    condition.also(fmt::format("run_recorder_time({}) >= ?", moment), since);
  }
  if (filter.until) {
    const std::string until = format_rfc3339(*filter.until);
    // Every time of the day itself is below the day followed by a character above all digits, spaces and T.
    condition.also(fmt::format("{} < ?", moment), until.substr(0, 10) + "~");
    condition.also(fmt::format("run_recorder_time({}) < ?", moment), until);
  }
  if (after) {
    condition.also(fmt::format("({}, r.run_id) < (?, ?)", moment), after->time);
    condition.texts.push_back(after->id);
  }
  return condition;
}

}  // namespace

Result<RunPage> SqliteStore::list_runs(const RunFilter& filter) {
  constexpr RunParts kParts = RunParts::kWithoutData;
  std::optional<PagePlace> after;
  if (!filter.cursor.empty()) {
    auto place = decode_run_cursor(filter.by, filter.cursor);
    if (!place) return place.error();
    after = std::move(*place);
  }
  // Few rows have a prefix, and they are found by the key: the plus keeps the order's index out of it.
  const std::string order = fmt::format("{}{}", filter.id_prefix ? "+" : "", moment_of(filter.by));
  const Condition condition = condition_of(filter, after);
  // One row more than asked for says whether there is a next page.
  const std::string sql =
      fmt::format("SELECT {}, {} FROM \"{{{{prefix}}}}runs\" r{} ORDER BY {} DESC, r.run_id DESC LIMIT {}",
                  run_list(kParts), moment_of(filter.by), condition.sql, order, filter.limit + 1);
  if (auto begun = begin_call(); !begun) return begun.error();
  auto prepared = connection_->prepare(with_prefix(sql, table_prefix_));
  if (!prepared) return prepared.error();
  RunPage page;
  PagePlace last;
  std::size_t bytes = 0;
  const auto on_row = [&](const SqliteRows& row) {
    if (!page.runs.empty() && (page.runs.size() >= filter.limit || bytes > kPageBytes)) {
      page.next = encode_run_cursor(filter.by, last);
      return false;
    }
    SqliteFields fields(row);
    const Run& run = page.runs.emplace_back(read_run(fields, kParts));
    bytes += weight_of(run);
    last = {fields.text(), run.run_id};
    return true;
  };
  if (auto done = each(prepared->rows_for(condition.texts), on_row); !done) return done.error();
  return page;
}

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
  if (auto begun = begin_call(); !begun) return begun.error();
  std::map<Status, std::uint64_t> counts;
  const auto on_row = [&counts](const SqliteRows& row) {
    const auto status = parse_status(row.text(0));
    if (status) counts[*status] = static_cast<std::uint64_t>(row.integer(1));
    return true;
  };
  if (auto done = read(kCountByStatus, on_row); !done) return done.error();
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
