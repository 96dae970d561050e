// Lists runs in PostgreSQL. However large the table is, one page costs no more than kFewRows rows that an index
// finds, or RunFilter::examine rows in the order of the list; the statements leave the planner no other way.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "run/job.h"
#include "store/paging.h"
#include "store/pg_page.h"
#include "store/pg_store.h"
#include "store/text_match.h"
#include "store/transition_sql.h"

namespace run_recorder {
namespace {

// An integer's rows have it as oban_job_id, whoever wrote them; each way has an index of its own.
std::string job_condition(PgCommand& command, const std::string& job) {
  if (const auto number = job_number(job)) return "r.oban_job_id = " + command.param(*number, "bigint");
  return fmt::format("r.job_id = {} AND r.oban_job_id IS NULL", command.param(job, "text"));
}

// A list comes from one part of the table or two, each of which an index has in the order of a time. An index of
// coalesce(started_at, inserted_at) would do for both, but where an application made the table the two may be of
// different types, and then that is no immutable expression.
struct RunsPart {
  std::string moment;  // of rows as r
  std::string_view which;
};
struct RunsInOrder {
  std::vector<RunsPart> parts;
  std::string type;  // of their moments
};
RunsInOrder runs_in_order(const PgSchema& schema, RunOrder by) {
  const PgColumn& inserted = schema.column("runs", "inserted_at");
  if (by == RunOrder::kRecorded) return {{{"r.inserted_at", "true"}}, inserted.type};
  const bool alike = schema.column("runs", "started_at").base == inserted.base;
  const auto moment = [&](std::string_view column) {
    return alike ? fmt::format("r.{}", column) : schema.instant("runs", column, "r");
  };
  return {{{moment("started_at"), "r.started_at IS NOT NULL"}, {moment("inserted_at"), "r.started_at IS NULL"}},
          alike ? inserted.base : "timestamptz"};
}

// Keys are no text of an error. A column of type json may hold what jsonb cannot: \u0000, half of a pair.
std::string error_condition(const PgSchema& schema, const std::string& text) {
  const std::string in_strings = fmt::format(
      "EXISTS (SELECT 1 FROM jsonb_path_query(r.error::jsonb, 'strict $.** ? (@.type() == \"string\")') AS s (v) "
      "WHERE strpos(lower(s.v #>> '{{}}'), lower({})) > 0)",
      text);
  if (schema.column("runs", "error").base != "json") return in_strings;
  return fmt::format(
      R"(CASE WHEN r.error::text ~* '\\u(0000|d[89a-f])' THEN strpos(lower(r.error::text), lower({})) > 0 ELSE {} END)",
      text, in_strings);
}

void add_outcome_conditions(PgCommand& command, std::vector<std::string>& conditions, const PgSchema& schema,
                            const RunFilter& filter) {
  if (filter.longer_than) {
    conditions.push_back(fmt::format(
        "r.status <> 'stuck' AND coalesce({}, CASE WHEN r.status = 'running' THEN now() END) - {} > {} * interval '1 "
        "millisecond'",
        schema.instant("runs", "finalized_at", "r"), schema.instant("runs", "started_at", "r"),
        command.param(filter.longer_than->count(), "bigint")));
  }
  if (filter.error_text) {
    conditions.push_back(error_condition(schema, command.param(*filter.error_text, "text")));
  }
  if (filter.exit_status) {
    conditions.push_back(
        fmt::format("(r.error::jsonb @> {}::jsonb OR r.result::jsonb @> {}::jsonb)",
                    command.param(fmt::format(R"({{"errors":[{{"exit_status":{}}}]}})", *filter.exit_status), "text"),
                    command.param(fmt::format(R"({{"exit_status":{}}})", *filter.exit_status), "text")));
  }
}

// Of rows as r, but for what the list's order bounds; true where there is none.
std::vector<std::string> conditions_of(PgCommand& command, const PgSchema& schema, const RunFilter& filter) {
  std::vector<std::string> conditions{"true"};
  if (!filter.statuses.empty()) {
    conditions.push_back(fmt::format("r.status IN ({})", sql_list(filter.statuses)));
  }
  if (filter.council) conditions.push_back("r.council = " + command.param(*filter.council, "text"));
  for (const auto& [column, pattern] : column_patterns(filter)) {
    if (pattern)
      conditions.push_back(fmt::format("r.{} LIKE {}", column, command.param(like_pattern(*pattern), "text")));
  }
  // A prefix is an Access of its own.
  if (filter.oban_job_id) conditions.push_back("r.oban_job_id = " + command.param(*filter.oban_job_id, "bigint"));
  if (filter.job) conditions.push_back(job_condition(command, *filter.job));
  if (filter.queue) {
    const std::string queue = command.param(*filter.queue, "text");
    conditions.push_back(*filter.queue == kDefaultQueue
                             ? fmt::format("(r.queue = {} OR (r.queue IS NULL AND (r.job_id IS NOT NULL OR "
                                           "r.oban_job_id IS NOT NULL)))",
                                           queue)
                             : fmt::format("r.queue = {}", queue));
  }
  if (filter.pass) {
    // For each row by the index, however many the pass has marked; EXISTS might be made a hash of them all.
    conditions.push_back(
        fmt::format("(SELECT true FROM {} h WHERE h.pass_id = {} AND h.run_id = r.run_id AND h.type = '{}' LIMIT 1)",
                    schema.table("run_events"), command.param(*filter.pass, "text"), kStuckEvent));
  }
  add_outcome_conditions(command, conditions, schema, filter);
  return conditions;
}

// Each with {} for the moment that orders the list.
Result<std::vector<std::string>> bounds_of(PgCommand& command, const RunFilter& filter, const std::string& type) {
  std::vector<std::string> bounds;
  if (filter.since) bounds.push_back("{} >= " + command.param(format_rfc3339(*filter.since), type));
  if (filter.until) bounds.push_back("{} < " + command.param(format_rfc3339(*filter.until), type));
  if (!filter.cursor.empty()) {
    const auto after = decode_run_cursor(filter.by, filter.cursor);
    if (!after) return after.error();
    if (!fits_time_cursor(*after)) return invalid_cursor(filter.cursor);
    const std::string time = command.param(after->time, type);
    bounds.push_back("({}, r.run_id) < (" + time + ", " + command.param(after->id, "text") + ")");
  }
  return bounds;
}
// The order's time of a row as r, whichever part it belongs to.
std::string moment_of_all(const RunsInOrder& order) {
  if (order.parts.size() == 1) return order.parts[0].moment;
  return fmt::format("CASE WHEN {} THEN {} ELSE {} END", order.parts[0].which, order.parts[0].moment,
                     order.parts[1].moment);
}

// What names few rows of a filter's, each found by an index of its own: in the order of how few they are likely to
// be.
enum class Access { kPrefix, kObanJob, kJob, kPass, kCouncil };
std::vector<Access> accesses_of(const RunFilter& filter) {
  std::vector<Access> accesses;
  if (filter.id_prefix) accesses.push_back(Access::kPrefix);
  if (filter.oban_job_id) accesses.push_back(Access::kObanJob);
  if (filter.job) accesses.push_back(Access::kJob);
  if (filter.pass) accesses.push_back(Access::kPass);
  if (filter.council) accesses.push_back(Access::kCouncil);
  return accesses;
}

// The entries of the index that an access takes.
std::string entries_of(PgCommand& command, const PgSchema& schema, const RunFilter& filter, Access access) {
  const std::string runs = schema.table("runs");
  switch (access) {
    case Access::kPrefix:
      // The key of a table that we made is in the order of bytes; that of another one may not serve.
      return fmt::format(
          R"(SELECT r.run_id FROM {} r WHERE r.run_id COLLATE "C" >= {} AND r.run_id COLLATE "C" < {} )"
          R"(ORDER BY r.run_id COLLATE "C" LIMIT {})",
          runs, command.param(*filter.id_prefix, "text"), command.param(above_prefix(*filter.id_prefix), "text"),
          kPrefixIds);
    case Access::kObanJob:
      return fmt::format("SELECT r.* FROM {} r WHERE r.oban_job_id = {} LIMIT {}", runs,
                         command.param(*filter.oban_job_id, "bigint"), kFewRows + 1);
    case Access::kJob:
      return fmt::format("SELECT r.* FROM {} r WHERE {} LIMIT {}", runs, job_condition(command, *filter.job),
                         kFewRows + 1);
    case Access::kPass:
      return fmt::format("SELECT h.run_id FROM {} h WHERE h.pass_id = {} ORDER BY h.pass_id, h.run_id LIMIT {}",
                         schema.table("run_events"), command.param(*filter.pass, "text"), kFewRows + 1);
    case Access::kCouncil:
      // In the index's order: a bitmap would be made of all its entries.
      return fmt::format(
          "SELECT r.* FROM {} r WHERE r.council = {} ORDER BY r.inserted_at DESC, r.run_id DESC LIMIT {}", runs,
          command.param(*filter.council, "text"), kFewRows + 1);
  }
  return {};
}

// The rows of that, as r.*.
std::string rows_of(PgCommand& command, const PgSchema& schema, const RunFilter& filter, Access access) {
  const std::string entries = entries_of(command, schema, filter, access);
  if (access != Access::kPrefix && access != Access::kPass) return entries;
  return fmt::format("SELECT r.* FROM {} r WHERE r.run_id IN ({})", schema.table("runs"), entries);
}

// In the order of its index: a look through the table for a few rows may find them at its end.
std::string running_rows_sql(const PgSchema& schema, std::size_t limit) {
  return fmt::format("SELECT r.* FROM {} r WHERE r.status = 'running' ORDER BY r.run_id LIMIT {}",
                     schema.table("runs"), limit);
}

// What the rows of a walk have in common, so that an index has no others.
enum class Walk { kAll, kCouncil, kStatus };

// The parts of the table that have all rows of a filter, each in the order of one of its indexes.
std::vector<std::string> sources_of(PgCommand& command, const PgSchema& schema, const RunFilter& filter, Walk over) {
  std::vector<std::string> sources;
  const std::string runs = schema.table("runs");
  if (over == Walk::kAll) return {fmt::format("{} r WHERE true", runs)};
  if (over == Walk::kCouncil) {
    return {fmt::format("{} r WHERE r.council = {}", runs, command.param(*filter.council, "text"))};
  }
  for (const Status status : filter.statuses) {
    sources.push_back(status == Status::kRunning
                          ? fmt::format("({}) r WHERE true", running_rows_sql(schema, kFewRows))
                          : fmt::format("{} r WHERE r.status = '{}'", runs, to_string(status)));
  }
  return sources;
}

// The first `examined` rows in the list's order, as r.* with run_recorder_moment.
std::string walk_sql(PgCommand& command, const PgSchema& schema, const RunFilter& filter, const RunsInOrder& order,
                     Walk over, const std::vector<std::string>& bounds, std::size_t examined) {
  std::string walk;
  for (const std::string& source : sources_of(command, schema, filter, over)) {
    for (const RunsPart& part : order.parts) {
      std::string bounded;
      for (const std::string& bound : bounds) bounded += " AND " + fmt::format(fmt::runtime(bound), part.moment);
      walk += fmt::format(
          "{0}(SELECT r.*, {1} AS run_recorder_moment FROM {2} AND {3}{4} ORDER BY {1} DESC, r.run_id DESC LIMIT {5})",
          walk.empty() ? "" : " UNION ALL ", part.moment, source, part.which, bounded, examined);
    }
  }
  return fmt::format("SELECT r.* FROM ({}) r ORDER BY r.run_recorder_moment DESC, r.run_id DESC LIMIT {}", walk,
                     examined);
}

Timestamp moment_of_row(const Run& run, RunOrder by) {
  return (by == RunOrder::kStarted && run.started_at ? run.started_at : run.inserted_at).value_or(Timestamp{});
}

}  // namespace

// How a list is read: by an access, or by walking.
struct PgStore::RunsPlan {
  std::optional<Access> access = {};
  Walk walk = Walk::kAll;
};

Result<bool> PgStore::is_few(const PgCommand& entries) {
  const auto rows = connection_->exec(fmt::format("SELECT count(*) FROM ({}) e", entries.sql), entries.params);
  if (!rows) return rows.error();
  return PgFields((*rows)[0]).count() <= kFewRows;
}

Result<PgStore::RunsPlan> PgStore::plan_of(const RunFilter& filter) {
  for (const Access access : accesses_of(filter)) {
    PgCommand entries;
    entries.sql = entries_of(entries, schema_, filter, access);
    const auto few = is_few(entries);
    if (!few) return few.error();
    if (*few) return RunsPlan{.access = access};
  }
  const Walk otherwise = filter.council && filter.by == RunOrder::kRecorded ? Walk::kCouncil : Walk::kAll;
  if (filter.statuses.empty() || std::ranges::count(filter.statuses, Status::kCompleted) > 0) {
    return RunsPlan{.walk = otherwise};
  }
  if (std::ranges::count(filter.statuses, Status::kRunning) > 0) {
    const auto few = is_few({running_rows_sql(schema_, kFewRows + 1), {}});
    if (!few) return few.error();
    return RunsPlan{.walk = *few ? Walk::kStatus : otherwise};
  }
  return RunsPlan{.walk = Walk::kStatus};
}

// At most limit rows of a page, and not more than filter.examine rows looked at: how many were, in `examined`.
Result<RunPage> PgStore::some_runs(const RunFilter& filter, const RunsPlan& plan, std::size_t& examined) {
  PgCommand command;
  const RunsInOrder order = runs_in_order(schema_, filter.by);
  const std::string conditions = fmt::format("{}", fmt::join(conditions_of(command, schema_, filter), " AND "));
  const auto bounds = bounds_of(command, filter, order.type);
  if (!bounds) return bounds.error();
  const std::size_t last_place = plan.access ? kFewRows : filter.examine;
  std::string rows_in_order;
  std::string bounded = conditions;
  if (plan.access) {
    rows_in_order = fmt::format("SELECT r.*, {} AS run_recorder_moment FROM ({}) r", moment_of_all(order),
                                rows_of(command, schema_, filter, *plan.access));
    for (const std::string& bound : *bounds) {
      bounded += " AND " + fmt::format(fmt::runtime(bound), "r.run_recorder_moment");
    }
  } else {
    rows_in_order = walk_sql(command, schema_, filter, order, plan.walk, *bounds, last_place);
  }
  // The last row that is looked at comes whether it fits or not: the next page begins behind it.
  const std::string inner = fmt::format(
      "SELECT {0}, r.run_recorder_fits, r.run_recorder_place, r.run_recorder_moment AS o1, r.run_id AS o2, "
      "CASE WHEN r.run_recorder_fits THEN {1} ELSE 0 END AS weight FROM (SELECT r.*, row_number() OVER (ORDER BY "
      "r.run_recorder_moment DESC, r.run_id DESC) AS run_recorder_place, coalesce(({2}), false) AS run_recorder_fits "
      "FROM ({3}) r) r WHERE r.run_recorder_fits{4} ORDER BY r.run_recorder_moment DESC, r.run_id DESC LIMIT {5}",
      run_list(schema_, RunParts::kWithoutData), weight_sql(RunParts::kWithoutData), bounded, rows_in_order,
      plan.access ? "" : fmt::format(" OR r.run_recorder_place = {}", last_place), filter.limit + 1);
  const auto rows = connection_->exec(page_sql(inner, "o1 DESC, o2 DESC"), command.params);
  if (!rows) return rows.error();
  const PageEnd end = end_of_page(*rows, filter.limit);
  RunPage page;
  std::optional<Run> last;
  for (std::size_t i = 0; i < end.rows; ++i) {
    PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
    last = read_run(fields, RunParts::kWithoutData);
    const bool fits = fields.boolean();
    examined = fields.count();
    if (fits) page.runs.push_back(*last);
  }
  const bool stopped = !plan.access && last && examined == last_place;
  if (stopped && !end.more) page.examined_until = moment_of_row(*last, filter.by);
  if (last && (end.more || stopped)) {
    page.next = encode_run_cursor(filter.by, {format_rfc3339(moment_of_row(*last, filter.by)), last->run_id});
  }
  return page;
}

// The part grows: the server weighs all rows that it is asked for.
Result<RunPage> PgStore::list_runs(const RunFilter& filter) {
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  // All of a page is of one moment. And where the planner takes a value for a frequent one, a scan of the whole table
  // for a few rows looks cheap to it.
  const auto set = connection_->exec_script(
      "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = off");
  if (!set) return set.error();
  const auto plan = plan_of(filter);
  if (!plan) return plan.error();
  RunFilter some = filter;
  // Rows of one status or name lie scattered: each is a page of the disk.
  if (plan->walk != Walk::kAll) some.examine = std::min(some.examine, kFewRows);
  RunPage page;
  std::size_t bytes = 0;
  for (std::size_t part_rows = kFirstPart;; part_rows *= kGrowth) {
    some.limit = std::min(part_rows, filter.limit - page.runs.size());
    std::size_t examined = 0;
    auto part = some_runs(some, *plan, examined);
    if (!part) return part.error();
    for (Run& run : part->runs) {
      bytes += bytes_of(run, false);
      page.runs.push_back(std::move(run));
    }
    some.cursor = page.next = std::move(part->next);
    page.examined_until = part->examined_until;
    some.examine -= std::min(examined, some.examine);
    if (page.next.empty() || page.runs.size() >= filter.limit || bytes > kPageBytes || page.examined_until) break;
    if (!plan->access && some.examine == 0) break;
  }
  if (const auto done = transaction->commit(); !done) return done.error();
  return page;
}

}  // namespace run_recorder
