// Lists runs in SQLite. However large the table is, one page costs no more than kFewRows rows that an index finds, or
// RunFilter::examine rows in the order of the list; each statement names the index that it reads.
#include "store/sqlite_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "run/job.h"
#include "store/migrations.h"
#include "store/paging.h"
#include "store/sqlite_store.h"
#include "store/text_match.h"
#include "store/transition_sql.h"

namespace run_recorder {

namespace {

constexpr std::string_view kFewStatuses =
    "r.status IN ('queued', 'failed', 'cancelled', 'stuck')";  // as its index has it

// Conditions, with a ? for each of texts, in their order.
struct Conditions {
  std::vector<std::string> parts;
  std::vector<std::string> texts;
  void also(std::string part) { parts.push_back(std::move(part)); }
  void also(std::string part, std::string text) {
    also(std::move(part));
    texts.push_back(std::move(text));
  }
  // " AND …", or nothing.
  std::string sql() const {
    std::string all;
    for (const std::string& part : parts) all += " AND " + part;
    return all;
  }
};

// As the index has it.
std::string_view moment_of(RunOrder by) {
  return by == RunOrder::kStarted ? "coalesce(r.started_at, r.inserted_at)" : "r.inserted_at";
}

void require_outcome(Conditions& conditions, const RunFilter& filter) {
  if (filter.longer_than) {
    conditions.also(fmt::format(
        "r.status <> 'stuck' AND (julianday(coalesce(run_recorder_time(r.finalized_at), CASE WHEN r.status = "
        "'running' THEN 'now' END)) - julianday(run_recorder_time(r.started_at))) * 86400000.0 > {}",
        filter.longer_than->count()));
  }
  if (filter.error_text) conditions.also("run_recorder_strings_hold(r.error, ?)", *filter.error_text);
  if (filter.exit_status) {
    conditions.also(fmt::format(
        "(CASE WHEN json_valid(r.error) THEN EXISTS (SELECT 1 FROM json_tree(r.error, '$.errors') t WHERE t.key = "
        "'exit_status' AND t.type = 'integer' AND t.atom = {0}) ELSE 0 END OR CASE WHEN json_valid(r.result) THEN "
        "coalesce(json_extract(r.result, '$.exit_status') = {0}, 0) ELSE 0 END)",
        *filter.exit_status));
  }
}

// An integer's rows have it as oban_job_id, whoever wrote them; each way has an index of its own.
void require_job(Conditions& conditions, const std::string& job) {
  if (const auto number = job_number(job)) {
    conditions.also(fmt::format("r.oban_job_id = {}", *number));
  } else {
    conditions.also("r.job_id = ? AND r.oban_job_id IS NULL", job);
  }
}

// What is asked of each row that is looked at: all of the filter but for what bounds the walk.
Conditions conditions_on_rows(const RunFilter& filter) {
  Conditions conditions;
  if (!filter.statuses.empty()) conditions.also(fmt::format("r.status IN ({})", sql_list(filter.statuses)));
  if (filter.council) conditions.also("r.council = ?", *filter.council);
  for (const auto& [column, pattern] : column_patterns(filter)) {
    if (pattern) conditions.also(fmt::format("r.{} GLOB ?", column), glob_pattern(*pattern));
  }
  if (filter.oban_job_id) conditions.also(fmt::format("r.oban_job_id = {}", *filter.oban_job_id));
  if (filter.job) require_job(conditions, *filter.job);
  if (filter.queue) {
    conditions.also(*filter.queue == kDefaultQueue ? "(r.queue = ? OR (r.queue IS NULL AND (r.job_id IS NOT NULL OR "
                                                     "r.oban_job_id IS NOT NULL)))"
                                                   : "r.queue = ?",
                    *filter.queue);
  }
  if (filter.pass) {
    // By the run's history, which is short, and not by the pass, which may have marked a million; the plus sees to
    // it.
    conditions.also(fmt::format("EXISTS (SELECT 1 FROM \"{{{{prefix}}}}run_events\" e WHERE e.run_id = r.run_id AND "
                                "+e.pass_id = ? AND e.type = '{}')",
                                kStuckEvent),
                    *filter.pass);
  }
  require_outcome(conditions, filter);
  const std::string_view moment = moment_of(filter.by);
  if (filter.since) conditions.also(fmt::format("run_recorder_time({}) >= ?", moment), format_rfc3339(*filter.since));
  if (filter.until) conditions.also(fmt::format("run_recorder_time({}) < ?", moment), format_rfc3339(*filter.until));
  return conditions;
}

// What bounds the walk in the order's index.
Conditions bounds_of_walk(const RunFilter& filter, const std::optional<PagePlace>& after) {
  const std::string_view moment = moment_of(filter.by);
  Conditions bounds;
  // The day serves the index whatever form the time has; conditions_on_rows() has what judges the form.
  if (filter.since) bounds.also(fmt::format("{} >= ?", moment), format_rfc3339(*filter.since).substr(0, 10));
  // Every time of the day itself is below the day followed by a character above all digits, spaces and T.
  if (filter.until) bounds.also(fmt::format("{} < ?", moment), format_rfc3339(*filter.until).substr(0, 10) + "~");
  if (after) {
    bounds.also(fmt::format("({}, r.run_id) < (?, ?)", moment), after->time);
    bounds.texts.push_back(after->id);
  }
  return bounds;
}

SqliteSource all_rows(std::string_view index, std::string_view condition) {
  return {fmt::format("\"{{{{prefix}}}}runs\" r INDEXED BY \"{{{{prefix}}}}{}\" WHERE {}", index, condition)};
}
SqliteSource scattered_rows(std::string_view index, std::string_view condition, std::vector<std::string> texts) {
  return {all_rows(index, condition).from, std::move(texts), true};
}

// At most so many rows of what an index finds.
SqliteSource found_rows(std::string_view index, std::string_view condition, std::size_t limit) {
  return {fmt::format("(SELECT * FROM {} LIMIT {}) r WHERE true", all_rows(index, condition).from, limit)};
}

}  // namespace

std::vector<SqliteSource> sqlite_accesses(const RunFilter& filter) {
  constexpr std::size_t kLimit = kFewRows + 1;
  std::vector<SqliteSource> accesses;
  if (filter.id_prefix) {
    accesses.push_back(
        {fmt::format("(SELECT * FROM \"{{{{prefix}}}}runs\" p WHERE p.run_id >= ? AND p.run_id < ? ORDER BY p.run_id "
                     "LIMIT {}) r WHERE true",
                     kPrefixIds),
         {*filter.id_prefix, above_prefix(*filter.id_prefix)}});
  }
  if (filter.oban_job_id) {
    accesses.push_back(found_rows("runs_job", fmt::format("r.oban_job_id = {}", *filter.oban_job_id), kLimit));
  }
  if (filter.job) {
    Conditions job;
    require_job(job, *filter.job);
    accesses.push_back(
        found_rows(job.texts.empty() ? "runs_job" : "runs_job_id", fmt::format("true{}", job.sql()), kLimit));
    accesses.back().texts = job.texts;
  }
  if (filter.pass) {
    accesses.push_back(
        {fmt::format(
             "(SELECT * FROM \"{{{{prefix}}}}runs\" r WHERE r.run_id IN (SELECT e.run_id FROM "
             "\"{{{{prefix}}}}run_events\" e INDEXED BY \"{{{{prefix}}}}run_events_pass\" WHERE e.pass_id = ? "
             "AND e.type = '{}' LIMIT {})) r WHERE true",
             kStuckEvent, kLimit),
         {*filter.pass}});
  }
  if (filter.council) {
    accesses.push_back(found_rows("runs_council", "r.council = ?", kLimit));
    accesses.back().texts = {*filter.council};
  }
  return accesses;
}

SqliteSource sqlite_running_rows() {
  return found_rows("runs_running", "r.status = 'running'", kFewRows + 1);
}

std::vector<SqliteSource> sqlite_parts_in_order(const RunFilter& filter, bool running_is_few) {
  const bool by_started = filter.by == RunOrder::kStarted;
  const auto has = [&](Status status) { return std::ranges::count(filter.statuses, status) > 0; };
  if (filter.statuses.empty() || has(Status::kCompleted) || (has(Status::kRunning) && !running_is_few)) {
    if (filter.council && !by_started) return {scattered_rows("runs_council", "r.council = ?", {*filter.council})};
    return {all_rows(by_started ? "runs_started" : "runs_inserted", "true")};
  }
  std::vector<SqliteSource> parts;
  for (const Status status : filter.statuses) {
    parts.push_back(status == Status::kRunning
                        ? sqlite_running_rows()
                        : scattered_rows(by_started ? "runs_status_started" : "runs_status",
                                         fmt::format("r.status = '{}' AND {}", to_string(status), kFewStatuses), {}));
  }
  return parts;
}

SqliteWalk sqlite_walk(std::span<const SqliteSource> sources, const RunFilter& filter,
                       const std::optional<PagePlace>& after) {
  const Conditions conditions = conditions_on_rows(filter);
  const Conditions bounds = bounds_of_walk(filter, after);
  SqliteWalk walk;
  for (const SqliteSource& source : sources) {
    walk.sql += fmt::format("{}SELECT {} AS moment, r.run_id AS id, coalesce(true{}, 0) FROM {}{}",
                            walk.sql.empty() ? "" : " UNION ALL ", moment_of(filter.by), conditions.sql(),
                            source.from, bounds.sql());
    for (const auto* texts : {&conditions.texts, &source.texts, &bounds.texts}) {
      walk.texts.insert(walk.texts.end(), texts->begin(), texts->end());
    }
  }
  walk.sql += " ORDER BY 1 DESC, 2 DESC";
  return walk;
}

// Rows come in the order of an index, and so many are examined; or else all are few.
struct SqliteStore::ListPlan {
  SqliteWalk walk;
  std::optional<std::size_t> examine = {};
};

Result<bool> SqliteStore::is_few(std::string_view from, std::span<const std::string> texts) {
  auto prepared = connection_->prepare(with_prefix(fmt::format("SELECT count(*) FROM {}", from), table_prefix_));
  if (!prepared) return prepared.error();
  bool few = false;
  const auto on_row = [&few](const SqliteRows& row) {
    few = row.integer(0) <= static_cast<std::int64_t>(kFewRows);
    return false;
  };
  if (auto done = each(prepared->rows_for(texts), on_row); !done) return done.error();
  return few;
}

// The first access that finds few rows; else the rows in the list's order.
Result<SqliteStore::ListPlan> SqliteStore::plan_of(const RunFilter& filter, const std::optional<PagePlace>& after) {
  for (const SqliteSource& access : sqlite_accesses(filter)) {
    const auto few = is_few(access.from, access.texts);
    if (!few) return few.error();
    if (*few) return ListPlan{sqlite_walk({&access, 1}, filter, after)};
  }
  bool running_is_few = false;
  if (std::ranges::count(filter.statuses, Status::kRunning) > 0) {
    const auto few = is_few(sqlite_running_rows().from, {});
    if (!few) return few.error();
    running_is_few = *few;
  }
  const auto parts = sqlite_parts_in_order(filter, running_is_few);
  // Rows of one status or name lie scattered: each is a page of the disk.
  const bool is_scattered = parts.front().is_scattered || parts.size() > 1;
  return ListPlan{sqlite_walk(parts, filter, after),
                  is_scattered ? std::min(filter.examine, kFewRows) : filter.examine};
}

Result<RunPage> SqliteStore::list_runs(const RunFilter& filter) {
  constexpr RunParts kParts = RunParts::kWithoutData;
  static const std::string row_sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}runs\" r WHERE r.run_id = ?1", run_list(kParts));
  std::optional<PagePlace> after;
  if (!filter.cursor.empty()) {
    auto place = decode_run_cursor(filter.by, filter.cursor);
    if (!place) return place.error();
    after = std::move(*place);
  }
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kRead);
  if (!transaction) return transaction.error();
  const auto plan = plan_of(filter, after);
  if (!plan) return plan.error();
  auto prepared = connection_->prepare(with_prefix(plan->walk.sql, table_prefix_));
  if (!prepared) return prepared.error();
  RunPage page;
  PagePlace last_listed, last_examined;
  std::optional<Timestamp> moment;
  std::size_t bytes = 0;
  std::size_t examined = 0;
  Result<void> read_whole;
  const auto on_run = [&](const SqliteRows& row) {
    SqliteFields fields(row);
    bytes += weight_of(page.runs.emplace_back(read_run(fields, kParts)));
    return false;
  };
  const auto on_row = [&](const SqliteRows& row) {
    if (plan->examine == examined) {
      page.next = encode_run_cursor(filter.by, last_examined);
      page.examined_until = moment;
      return false;
    }
    ++examined;
    last_examined = {std::string(row.text(0)), std::string(row.text(1))};
    moment = row.time(0);
    if (row.integer(2) == 0) return true;
    if (!page.runs.empty() && (page.runs.size() >= filter.limit || bytes > kPageBytes)) {
      page.next = encode_run_cursor(filter.by, last_listed);
      return false;
    }
    last_listed = last_examined;
    read_whole = read(row_sql, on_run, last_listed.id);
    return read_whole.has_value();
  };
  if (auto done = each(prepared->rows_for(plan->walk.texts), on_row); !done) return done.error();
  if (!read_whole) return read_whole.error();
  return page;
}

}  // namespace run_recorder
