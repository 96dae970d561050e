// Reads rows, history, chains, passes and dead letters in PostgreSQL.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/json_text.h"
#include "store/chain.h"
#include "store/paging.h"
#include "store/pg_page.h"
#include "store/pg_store.h"
#include "store/text_match.h"

namespace run_recorder {
namespace {

std::size_t json_bytes(const Run& run) {
  return bytes_of(run, false);
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

std::optional<PagePlace> decode_time_cursor(std::string_view cursor) {
  auto place = decode_cursor(cursor);
  if (!place || !fits_time_cursor(*place)) return std::nullopt;
  return place;
}

std::string letter_list() {
  return fmt::format(
      "id, recorder, run_id, type, event_id, encode(record, 'hex'), line, sqlstate, reason, tries, {} AS received, {} AS inserted",
      utc_text("received_at"), utc_text("inserted_at"));
}

}  // namespace

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
  const auto some = connection_->exec(
      fmt::format("SELECT status, count(*) FROM (SELECT r.status FROM {} r LIMIT {}) r GROUP BY status",
                  table("runs"), kCountedRows + 1));
  if (!some) return some.error();
  std::map<Status, std::uint64_t> counts;
  std::uint64_t rows = 0;
  for (const auto& row : *some) {
    PgFields fields(row);
    const auto status = parse_status(fields.text());
    const std::uint64_t count = fields.count();
    rows += count;
    if (status) counts[*status] = count;
  }
  return rows <= kCountedRows ? counts : count_in_part();
}

// The order is that of an index which has just those rows.
Result<std::map<Status, std::uint64_t>> PgStore::count_in_part() {
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  const auto set = connection_->exec_script("SET LOCAL enable_seqscan = off");
  if (!set) return set.error();
  std::string selected =
      fmt::format("(SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass('{}'))", table("runs"));
  constexpr std::array kCounted{Status::kQueued, Status::kRunning, Status::kFailed, Status::kCancelled,
                                Status::kStuck};
  for (const Status status : kCounted) {
    selected += fmt::format(
        ", (SELECT count(*) FROM (SELECT 1 FROM {} r WHERE r.status = '{}' ORDER BY {} LIMIT {}) r)", table("runs"),
        to_string(status), status == Status::kRunning ? "r.run_id" : "r.inserted_at, r.run_id", kCountedRows);
  }
  const auto rows = connection_->exec("SELECT " + selected);
  if (!rows) return rows.error();
  if (const auto done = transaction->commit(); !done) return done.error();
  PgFields fields((*rows)[0]);
  // Of a table that was never analyzed it says -1.
  const std::int64_t all = std::max<std::int64_t>(fields.integer(), static_cast<std::int64_t>(kCountedRows));
  std::map<Status, std::uint64_t> counts;
  std::int64_t others = 0;
  for (const Status status : kCounted) {
    const std::int64_t count = fields.integer();
    others += count;
    if (count > 0) counts[status] = static_cast<std::uint64_t>(count);
  }
  counts[Status::kCompleted] = static_cast<std::uint64_t>(std::max<std::int64_t>(all - others, 0));
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
