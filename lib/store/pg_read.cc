// Reads rows, history, chains, passes and dead letters in PostgreSQL.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/json_text.h"
#include "run/job.h"
#include "store/chain.h"
#include "store/paging.h"
#include "store/pg_store.h"
#include "store/text_match.h"
#include "store/transition_sql.h"

namespace run_recorder {
namespace {

constexpr std::size_t kFirstPart = 8;
constexpr std::size_t kGrowth = 4;

// What a row's JSON weighs on a page, of runs as r: the same as bytes_of() what was read.
std::string weight_sql(RunParts parts) {
  std::string sum = "0";
  for (const RunColumn& column : run_columns()) {
    if (column.kind != ColumnKind::kJson || !column.in(parts)) continue;
    sum += fmt::format(" + coalesce(octet_length(r.{}::text), 0)", column.name);
  }
  return sum;
}

std::size_t json_bytes(const Run& run) {
  return bytes_of(run, false);
}

// A page of a list, bounded by rows and by bytes, where the server does the bounding: a result is in our memory as a
// whole before its first row can be read. `inner` selects limit + 1 rows, the last of its columns named weight;
// `order` names the columns that order the page. The last column of the result says whether there is more.
std::string page_sql(std::string_view inner, std::string_view order) {
  return fmt::format(
      "SELECT *, count(*) OVER () < total AS more FROM (SELECT p.*, count(*) OVER () AS total, row_number() OVER "
      "(ORDER BY "
      "{1}) AS place, sum(p.weight) OVER (ORDER BY {1} ROWS UNBOUNDED PRECEDING) - p.weight AS before FROM ({0}) p) "
      "q "
      "WHERE before <= {2} ORDER BY place",
      inner, order, kPageBytes);
}

// Makes a page of growing parts: page_sql() weighs all rows that it is asked for, and where they are large that is
// work for nothing. fetch(limit, cursor) brings one part.
template <class Page, class Item, class Weight, class Fetch>
Result<Page> page_of_parts(std::vector<Item> Page::*items, std::size_t limit, std::string cursor, Weight&& weight,
                           Fetch&& fetch) {
  Page page;
  std::size_t bytes = 0;
  for (std::size_t some = kFirstPart;; some *= kGrowth) {
    some = std::min(some, limit - (page.*items).size());
    Result<Page> part = fetch(some, cursor);
    if (!part) return part.error();
    for (Item& item : (*part).*items) {
      bytes += weight(item);
      (page.*items).push_back(std::move(item));
    }
    cursor = std::move(part->next);
    if (cursor.empty() || (page.*items).size() >= limit || bytes > kPageBytes) break;
  }
  page.next = std::move(cursor);
  return page;
}

// An integer's rows have it as oban_job_id, whoever wrote them; each way has an index of its own.
std::string job_condition(PgCommand& command, const std::string& job) {
  if (const auto number = job_number(job)) return "r.oban_job_id = " + command.param(*number, "bigint");
  return fmt::format("r.job_id = {} AND r.oban_job_id IS NULL", command.param(job, "text"));
}

// Cursors outlive the statement that made them; a time that PostgreSQL cannot read must not look like bad data.
bool fits_time_cursor(const PagePlace& place) {
  return parse_rfc3339(place.time) && place.id.find('\0') == std::string::npos;
}

std::optional<PagePlace> decode_time_cursor(std::string_view cursor) {
  auto place = decode_cursor(cursor);
  if (!place || !fits_time_cursor(*place)) return std::nullopt;
  return place;
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

// Of rows as r, but for what the list's order bounds.
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
  if (filter.id_prefix) {
    // The key of a table that we made is in the order of bytes; that of another one may not serve.
    conditions.push_back(fmt::format(
        R"(r.run_id IN (SELECT p.run_id FROM {} p WHERE p.run_id COLLATE "C" >= {} AND p.run_id COLLATE "C" < {} )"
        R"(ORDER BY p.run_id COLLATE "C" LIMIT {}))",
        schema.table("runs"), command.param(*filter.id_prefix, "text"),
        command.param(above_prefix(*filter.id_prefix), "text"), kPrefixIds));
  }
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
    conditions.push_back(fmt::format("r.run_id IN (SELECT h.run_id FROM {} h WHERE h.pass_id = {} AND h.type = '{}')",
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

std::string letter_list() {
  return fmt::format(
      "id, recorder, run_id, type, event_id, encode(record, 'hex'), line, sqlstate, reason, tries, {} AS received, {} AS inserted",
      utc_text("received_at"), utc_text("inserted_at"));
}

// How many rows of a page_sql() result are the page, and whether there are more behind it.
struct PageEnd {
  std::size_t rows = 0;
  bool more = false;
};
PageEnd end_of_page(const pqxx::result& rows, std::size_t limit) {
  const auto count = static_cast<std::size_t>(rows.size());
  if (count > limit) return {limit, true};
  if (count == 0) return {};
  const pqxx::row last = rows[rows.size() - 1];
  return {count, last[last.size() - 1].c_str()[0] == 't'};
}

}  // namespace

Result<RunPage> PgStore::some_runs(const RunFilter& filter) {
  PgCommand command;
  const RunsInOrder order = runs_in_order(schema_, filter.by);
  const std::vector<std::string> conditions = conditions_of(command, schema_, filter);
  const auto bounds = bounds_of(command, filter, order.type);
  if (!bounds) return bounds.error();
  std::string parts;
  for (const RunsPart& part : order.parts) {
    std::string bounded;
    for (const std::string& bound : *bounds) bounded += " AND " + fmt::format(fmt::runtime(bound), part.moment);
    parts += fmt::format(
        "{0}(SELECT r.*, {1} AS run_recorder_moment FROM {2} r WHERE {3} AND {4}{5} ORDER BY {1} DESC, r.run_id DESC "
        "LIMIT {6})",
        parts.empty() ? "" : " UNION ALL ", part.moment, table("runs"), part.which, fmt::join(conditions, " AND "),
        bounded, filter.limit + 1);
  }
  const std::string inner = fmt::format(
      "SELECT {}, r.run_recorder_moment AS o1, r.run_id AS o2, {} AS weight FROM ({}) r ORDER BY "
      "r.run_recorder_moment DESC, r.run_id DESC LIMIT {}",
      run_list(schema_, RunParts::kWithoutData), weight_sql(RunParts::kWithoutData), parts, filter.limit + 1);
  const auto rows = connection_->exec(page_sql(inner, "o1 DESC, o2 DESC"), command.params);
  if (!rows) return rows.error();
  const PageEnd end = end_of_page(*rows, filter.limit);
  RunPage page;
  for (std::size_t i = 0; i < end.rows; ++i) {
    PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
    page.runs.push_back(read_run(fields, RunParts::kWithoutData));
  }
  if (!end.more) return page;
  const Run& last = page.runs.back();
  const auto moment = filter.by == RunOrder::kStarted && last.started_at ? last.started_at : last.inserted_at;
  if (moment) page.next = encode_run_cursor(filter.by, {format_rfc3339(*moment), last.run_id});
  return page;
}

Result<RunPage> PgStore::list_runs(const RunFilter& filter) {
  RunFilter some = filter;
  return page_of_parts(&RunPage::runs, filter.limit, filter.cursor, json_bytes,
                       [&](std::size_t limit, const std::string& cursor) {
                         some.limit = limit;
                         some.cursor = cursor;
                         return some_runs(some);
                       });
}

Result<WholePage> PgStore::some_whole_runs(std::size_t limit, std::string_view cursor) {
  PgCommand command;
  const std::string time_type = schema_.column("runs", "inserted_at").type;
  std::string condition = "r.inserted_at IS NOT NULL";
  if (!cursor.empty()) {
    const auto after = decode_time_cursor(cursor);
    if (!after) return invalid_cursor(cursor);
    const std::string time = command.param(after->time, time_type);
    condition = fmt::format("(r.inserted_at, r.run_id) > ({}, {})", time, command.param(after->id, "text"));
  }
  const std::string inner = fmt::format(
      "SELECT {}, {} AS place_time, r.inserted_at AS o1, r.run_id AS o2, {} AS weight FROM {} r WHERE {} "
      "ORDER BY r.inserted_at, r.run_id LIMIT {}",
      run_list(schema_, RunParts::kAll), schema_.time_text("runs", "inserted_at", "r"), weight_sql(RunParts::kAll),
      table("runs"), condition, limit + 1);
  const auto rows = connection_->exec(page_sql(inner, "o1, o2"), command.params);
  if (!rows) return rows.error();
  const PageEnd end = end_of_page(*rows, limit);
  WholePage page;
  for (std::size_t i = 0; i < end.rows; ++i) {
    PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
    WholeRun& whole = page.runs.emplace_back();
    whole.run = read_run(fields, RunParts::kAll);
    whole.place = encode_cursor({fields.text(), whole.run.run_id});
  }
  if (end.more) page.next = page.runs.back().place;
  return page;
}

Result<WholePage> PgStore::whole_runs(std::size_t limit, std::string_view cursor) {
  const auto weight = [](const WholeRun& whole) { return json_bytes(whole.run); };
  return page_of_parts(&WholePage::runs, limit, std::string(cursor), weight,
                       [&](std::size_t some, const std::string& from) { return some_whole_runs(some, from); });
}

Result<std::optional<Run>> PgStore::find_run(std::string_view run_id) {
  const auto rows = connection_->exec(
      fmt::format("SELECT {} FROM {} r WHERE r.run_id = $1", run_list(schema_, RunParts::kAll), table("runs")),
      {run_id});
  if (!rows) return rows.error();
  if (rows->empty()) return std::optional<Run>();
  PgFields fields((*rows)[0]);
  return std::optional(read_run(fields, RunParts::kAll));
}

Result<EventPage> PgStore::some_events(std::string_view run_id, std::size_t limit, std::string_view cursor) {
  const auto after_seq = decode_number_cursor(cursor);
  if (!after_seq) return invalid_cursor(cursor);
  const std::string inner = fmt::format(
      "SELECT {}, octet_length(h.payload::text) AS weight FROM {} h WHERE h.run_id = $1 AND h.seq > $2::bigint "
      "ORDER BY h.seq LIMIT {}",
      history_list(schema_), table("run_events"), limit + 1);
  const auto rows = connection_->exec(page_sql(inner, "seq"), {run_id, *after_seq});
  if (!rows) return rows.error();
  const PageEnd end = end_of_page(*rows, limit);
  EventPage page;
  for (std::size_t i = 0; i < end.rows; ++i) {
    PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
    page.events.push_back(read_event(fields));
  }
  if (end.more) page.next = std::to_string(page.events.back().entry.seq);
  return page;
}

Result<EventPage> PgStore::list_events(std::string_view run_id, std::size_t limit, std::string_view cursor) {
  const auto weight = [](const StoredEvent& event) { return event.entry.payload.size(); };
  return page_of_parts(&EventPage::events, limit, std::string(cursor), weight,
                       [&](std::size_t some, const std::string& from) { return some_events(run_id, some, from); });
}

// Up and down from the given id at once: ids that no row has hold their children together too. UNION forgets what it
// has seen, so that loops end.
std::string PgStore::chain_sql(std::string_view columns, std::size_t limit) const {
  return fmt::format(
      "WITH RECURSIVE member (id) AS (SELECT run_id FROM {0} WHERE run_id = $1 UNION SELECT n.id FROM "
      "member m CROSS JOIN LATERAL (SELECT r.parent_attempt_run_id::{1} AS id FROM {0} r "
      "WHERE r.run_id = m.id AND r.parent_attempt_run_id IS NOT NULL UNION ALL "
      "SELECT r.run_id FROM {0} r WHERE r.parent_attempt_run_id = m.id) n) "
      "SELECT {2} FROM (SELECT id FROM member LIMIT {3}) m JOIN {0} r ON r.run_id = m.id",
      table("runs"), schema_.column("runs", "run_id").type, columns, limit);
}

// The chain's rows in their order, with no more than that takes; their texts may be large.
Result<std::vector<Run>> PgStore::chain_order(std::string_view run_id, bool& truncated) {
  const std::string columns = fmt::format(
      "r.run_id, r.parent_attempt_run_id, r.attempt, {}, (SELECT count(*) FROM (SELECT 1 FROM member "
      "LIMIT {}) z) > {}",
      schema_.time_text("runs", "started_at", "r"), kMaxChain + 1, kMaxChain);
  const auto rows = connection_->exec(chain_sql(columns, kMaxChain), {run_id});
  if (!rows) return rows.error();
  std::vector<Run> order;
  for (const auto& row : *rows) {
    PgFields fields(row);
    Run& run = order.emplace_back();
    run.run_id = fields.text();
    run.parent_attempt_run_id = fields.optional_text();
    run.attempt = static_cast<std::int32_t>(fields.integer());
    run.started_at = fields.time();
    truncated = fields.boolean();
  }
  sort_chain(order);
  return order;
}

Result<ChainPage> PgStore::chain(std::string_view run_id, std::size_t limit, std::string_view cursor) {
  ChainPage page;
  const auto order = chain_order(run_id, page.truncated);
  if (!order) return order.error();
  const auto first = place_in_chain(*order, cursor);
  if (!first) return first.error();
  const std::string inner = fmt::format(
      "SELECT {}, w.o, {} AS weight FROM jsonb_array_elements_text($1::jsonb) WITH ORDINALITY AS w (id, o) JOIN {} r "
      "ON r.run_id = w.id::{}",
      run_list(schema_, RunParts::kWithoutData), weight_sql(RunParts::kWithoutData), table("runs"),
      schema_.column("runs", "run_id").type);
  std::size_t bytes = 0;
  std::size_t place = *first;
  // A few rows at first and then more: the server weighs all that it is asked for.
  for (std::size_t some = kFirstPart; place < order->size(); some *= kGrowth) {
    if (page.runs.size() >= limit || bytes > kPageBytes) {
      page.next = chain_cursor(*order, place - 1);
      break;
    }
    some = std::min({some, limit - page.runs.size(), order->size() - place});
    std::string ids;
    for (std::size_t i = place; i < place + some; ++i) {
      ids += ids.empty() ? '[' : ',';
      append_json_string(ids, (*order)[i].run_id);
    }
    const auto rows = connection_->exec(page_sql(inner, "o"), {ids + "]"});
    if (!rows) return rows.error();
    const PageEnd end = end_of_page(*rows, some);
    for (std::size_t i = 0; i < end.rows; ++i) {
      PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
      const Run& run = page.runs.emplace_back(read_run(fields, RunParts::kWithoutData));
      bytes += json_bytes(run);
    }
    // A row that is missing was removed meanwhile.
    place = end.more ? *place_in_chain(*order, chain_cursor(page.runs, page.runs.size() - 1)) : place + some;
  }
  return page;
}

Result<ReconciliationPage> PgStore::some_reconciliations(std::size_t limit, std::string_view cursor,
                                                         std::string_view id_prefix) {
  PgCommand command;
  std::string condition = "true";
  if (!id_prefix.empty()) {
    condition = fmt::format("pass_id >= {} AND pass_id < {}", command.param(id_prefix, "text"),
                            command.param(above_prefix(id_prefix), "text"));
  }
  if (!cursor.empty()) {
    const auto after = decode_time_cursor(cursor);
    if (!after) return invalid_cursor(cursor);
    const std::string time = command.param(after->time, "timestamptz");
    condition += fmt::format(" AND (started_at, pass_id) < ({}, {})", time, command.param(after->id, "text"));
  }
  const auto time = [this](std::string_view column) { return schema_.time_text("reconciliations", column, "c"); };
  const std::string inner = fmt::format(
      "SELECT pass_id, recorder, trigger, {}, {}, report, started_at, octet_length(report::text) AS weight FROM {} c "
      "WHERE {} ORDER BY started_at DESC, pass_id DESC LIMIT {}",
      time("started_at"), time("finished_at"), table("reconciliations"), condition, limit + 1);
  const auto rows = connection_->exec(page_sql(inner, "started_at DESC, pass_id DESC"), command.params);
  if (!rows) return rows.error();
  const PageEnd end = end_of_page(*rows, limit);
  ReconciliationPage page;
  for (std::size_t i = 0; i < end.rows; ++i) {
    PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
    page.passes.push_back(read_reconciliation(fields));
  }
  if (end.more)
    page.next = encode_cursor({format_rfc3339(page.passes.back().started_at), page.passes.back().pass_id});
  return page;
}

Result<ReconciliationPage> PgStore::list_reconciliations(std::size_t limit, std::string_view cursor,
                                                         std::string_view id_prefix) {
  const auto weight = [](const ReconciliationRow& row) { return row.report.size(); };
  return page_of_parts(
      &ReconciliationPage::passes, limit, std::string(cursor), weight,
      [&](std::size_t some, const std::string& from) { return some_reconciliations(some, from, id_prefix); });
}

Result<std::map<Status, std::uint64_t>> PgStore::count_by_status() {
  const auto rows = connection_->exec(fmt::format("SELECT status, count(*) FROM {} GROUP BY status", table("runs")));
  if (!rows) return rows.error();
  std::map<Status, std::uint64_t> counts;
  for (const auto& row : *rows) {
    PgFields fields(row);
    if (const auto status = parse_status(fields.text())) counts[*status] = fields.count();
  }
  return counts;
}

// ---- dead letters

Result<DeadLetterPage> PgStore::list_dead_letters(std::size_t limit, std::string_view cursor) {
  const auto after = decode_number_cursor(cursor);
  if (!after) return invalid_cursor(cursor);
  const std::string inner = fmt::format(
      "SELECT {}, 2 * octet_length(record) + octet_length(line) AS weight FROM {} WHERE id > $1::bigint "
      "ORDER BY id LIMIT {}",
      letter_list(), table("dead_letters"), limit + 1);
  const auto rows = connection_->exec(page_sql(inner, "id"), {*after});
  if (!rows) return rows.error();
  const PageEnd end = end_of_page(*rows, limit);
  DeadLetterPage page;
  for (std::size_t i = 0; i < end.rows; ++i) {
    PgFields fields((*rows)[static_cast<pqxx::result::size_type>(i)]);
    page.dead_letters.push_back(read_dead_letter(fields));
  }
  if (end.more) page.next = std::to_string(page.dead_letters.back().id);
  return page;
}

Result<std::optional<DeadLetter>> PgStore::find_dead_letter(std::int64_t id) {
  const auto rows = connection_->exec(
      fmt::format("SELECT {} FROM {} WHERE id = $1::bigint", letter_list(), table("dead_letters")), {id});
  if (!rows) return rows.error();
  if (rows->empty()) return std::optional<DeadLetter>();
  PgFields fields((*rows)[0]);
  return std::optional(read_dead_letter(fields));
}

Result<void> PgStore::note_refused_retry(std::int64_t id, std::string_view sqlstate, std::string_view reason) {
  const auto noted = connection_->exec(
      fmt::format("UPDATE {} SET tries = tries + 1, sqlstate = $2::text, reason = $3::text WHERE id = $1::bigint",
                  table("dead_letters")),
      {id, std::string(sqlstate), std::string(reason)});
  if (!noted) return noted.error();
  return {};
}

Result<bool> PgStore::remove_dead_letter(std::int64_t id) {
  const auto rows = connection_->exec(
      fmt::format("WITH removed AS (DELETE FROM {} WHERE id = $1::bigint RETURNING recorder), "
                  "counted AS (UPDATE {} w SET dead_letters = dead_letters - 1, "
                  "dead_letters_removed = dead_letters_removed + 1 FROM removed WHERE w.id = removed.recorder) "
                  "SELECT count(*) FROM removed",
                  table("dead_letters"), table("recorders")),
      {id});
  if (!rows) return rows.error();
  return PgFields((*rows)[0]).integer() == 1;
}

}  // namespace run_recorder
