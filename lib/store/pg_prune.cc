// What the retention reads and removes in PostgreSQL.
#include <fmt/format.h>

#include <algorithm>

#include "base/json_writer.h"
#include "store/paging.h"
#include "store/pg_store.h"
#include "store/transition_sql.h"

namespace run_recorder {
namespace {

constexpr std::string_view kInsufficientPrivilege = "42501";

AgedRow read_aged_row(PgFields& fields) {
  AgedRow row;
  row.run_id = fields.text();
  row.council = fields.text();
  row.status = parse_status(fields.text()).value_or(Status::kQueued);
  row.last_seq = fields.integer();
  row.age = std::chrono::milliseconds(std::max<std::int64_t>(0, fields.integer()));
  row.linked = fields.boolean();
  row.dead_letter = fields.boolean();
  return row;
}

// How long ago $1, in milliseconds, was.
constexpr std::string_view kSomeTimeAgo = "now() - $1::bigint * interval '1 millisecond'";

// Names what a role lacks that may not remove rows.
Error removal_error(const Error& error, std::string_view what, std::string_view tables) {
  if (error.sqlstate != kInsufficientPrivilege) return error;
  return Error{
      ErrorKind::kDenied,
      fmt::format("{}; removing {} needs: GRANT DELETE ON {} TO the daemon's role", error.message, what, tables),
      error.sqlstate};
}

}  // namespace

// A finding is made by a writing of the row, not by an event: the row may have been silent for months by then.
std::string PgStore::aged_row_list() const {
  return fmt::format(
      "r.run_id, r.council, r.status, {0}, (extract(epoch FROM clock_timestamp() - CASE WHEN r.status = '{1}' THEN "
      "coalesce({2}, {3}) ELSE {3} END) * 1000)::bigint, r.parent_attempt_run_id IS NOT NULL OR EXISTS "
      "(SELECT 1 FROM {4} c WHERE c.parent_attempt_run_id = r.run_id), "
      "EXISTS (SELECT 1 FROM {5} d WHERE d.run_id = r.run_id)",
      version_of_run(schema_), to_string(Status::kStuck), schema_.instant("runs", "updated_at", "r"),
      last_event_instant(schema_), table("runs"), table("dead_letters"));
}

Result<AgedPage> PgStore::aged_rows(Timestamp before, std::size_t limit, std::string_view cursor) {
  PgCommand command;
  const std::string time_type = schema_.column("runs", "inserted_at").type;
  std::string condition = "r.inserted_at < " + command.param(format_rfc3339(before), time_type);
  if (!cursor.empty()) {
    const auto after = decode_cursor(cursor);
    if (!after || !parse_rfc3339(after->time) || after->id.find('\0') != std::string::npos) {
      return invalid_cursor(cursor);
    }
    const std::string time = command.param(after->time, time_type);
    condition += fmt::format(" AND (r.inserted_at, r.run_id) > ({}, {})", time, command.param(after->id, "text"));
  }
  const auto rows = connection_->exec(
      fmt::format("SELECT {}, {} FROM {} r WHERE {} ORDER BY r.inserted_at, r.run_id LIMIT {}", aged_row_list(),
                  schema_.time_text("runs", "inserted_at", "r"), table("runs"), condition, limit),
      command.params);
  if (!rows) return rows.error();
  AgedPage page;
  std::string last_time;
  for (const auto& row : *rows) {
    PgFields fields(row);
    page.rows.push_back(read_aged_row(fields));
    last_time = fields.text();
  }
  if (page.rows.size() == limit) page.next = encode_cursor({last_time, page.rows.back().run_id});
  return page;
}

Result<std::vector<AgedRow>> PgStore::aged_chain(std::string_view run_id, std::size_t limit) {
  const auto rows = connection_->exec(chain_sql(aged_row_list(), limit), {run_id});
  if (!rows) return rows.error();
  std::vector<AgedRow> chain;
  for (const auto& row : *rows) {
    PgFields fields(row);
    chain.push_back(read_aged_row(fields));
  }
  return chain;
}

// A row that somebody else holds is not waited for: its chain's turn comes again.
Result<Pruned> PgStore::prune(std::span<const std::vector<AgedRow>> chains) {
  JsonRecords wanted;
  std::int64_t number = 0;
  for (const std::vector<AgedRow>& chain : chains) {
    ++number;
    for (const AgedRow& row : chain) {
      wanted.begin();
      wanted.text("i", row.run_id);
      wanted.number("q", row.last_seq);
      wanted.number("g", number);
      wanted.end();
    }
  }
  if (number == 0) return Pruned{};
  const auto rows = connection_->exec(
      fmt::format("WITH wanted AS MATERIALIZED (SELECT c.i, c.q, c.g FROM jsonb_to_recordset($1::jsonb) "
                  "AS c (i {0}, q bigint, g bigint)), "
                  "held AS MATERIALIZED (SELECT r.run_id, w.g FROM wanted w JOIN {1} r ON r.run_id = w.i "
                  "WHERE r.status IN ({6}) AND {2} = w.q "
                  "AND NOT EXISTS (SELECT 1 FROM {3} d WHERE d.run_id = w.i) "
                  "AND NOT EXISTS (SELECT 1 FROM {1} c WHERE c.parent_attempt_run_id = w.i "
                  "AND NOT EXISTS (SELECT 1 FROM wanted x WHERE x.i = c.run_id)) FOR UPDATE OF r SKIP LOCKED), "
                  "gone AS MATERIALIZED (SELECT h.run_id FROM held h WHERE "
                  "(SELECT count(*) FROM held y WHERE y.g = h.g) = (SELECT count(*) FROM wanted z WHERE z.g = h.g)), "
                  "remembered AS (INSERT INTO {4} (run_id, pruned_at) SELECT run_id, now() FROM gone "
                  "ON CONFLICT (run_id) DO UPDATE SET pruned_at = excluded.pruned_at), "
                  "history AS (DELETE FROM {5} e USING gone WHERE e.run_id = gone.run_id RETURNING 1), "
                  "runs AS (DELETE FROM {1} r USING gone WHERE r.run_id = gone.run_id RETURNING 1) "
                  "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM history)",
                  schema_.column("runs", "run_id").type, table("runs"), version_of_run(schema_),
                  table("dead_letters"), table("pruned"), table("run_events"), sql_list(terminal_statuses())),
      {std::move(wanted).take()});
  if (!rows) return removal_error(rows.error(), "runs", table("runs") + ", " + table("run_events"));
  PgFields fields((*rows)[0]);
  Pruned pruned;
  pruned.runs = fields.count();
  pruned.events = fields.count();
  return pruned;
}

Result<std::vector<std::string>> PgStore::pruned(std::span<const std::string> run_ids) {
  std::vector<std::string> remembered;
  if (run_ids.empty()) return remembered;
  const auto rows = connection_->exec(
      fmt::format("SELECT run_id FROM {} WHERE run_id = ANY (ARRAY(SELECT jsonb_array_elements_text($1::jsonb)))",
                  table("pruned")),
      {json_list(run_ids)});
  if (!rows) return rows.error();
  for (const auto& row : *rows) remembered.push_back(PgFields(row).text());
  return remembered;
}

Result<std::uint64_t> PgStore::forget_pruned(std::chrono::milliseconds older_than, std::size_t limit) {
  const auto rows = connection_->exec(
      fmt::format("DELETE FROM {0} WHERE run_id IN (SELECT run_id FROM {0} "
                  "WHERE pruned_at < now() - $1::bigint * interval '1 millisecond' ORDER BY pruned_at LIMIT {1})",
                  table("pruned"), limit),
      {older_than.count()});
  if (!rows) return rows.error();
  return static_cast<std::uint64_t>(rows->affected_rows());
}

// ---- the recorder's own tables

Result<AgedPassPage> PgStore::aged_passes(std::size_t limit, std::string_view cursor) {
  PgCommand command;
  std::string condition = "true";
  if (!cursor.empty()) {
    const auto after = decode_cursor(cursor);
    if (!after || !parse_rfc3339(after->time) || after->id.find('\0') != std::string::npos) {
      return invalid_cursor(cursor);
    }
    const std::string time = command.param(after->time, "timestamptz");
    condition = fmt::format("(c.started_at, c.pass_id) < ({}, {})", time, command.param(after->id, "text"));
  }
  const auto rows = connection_->exec(
      fmt::format(
          "SELECT c.pass_id, c.trigger, (extract(epoch FROM clock_timestamp() - c.started_at) * 1000)::bigint, "
          "pg_column_size(c.report), EXISTS (SELECT 1 FROM {} e WHERE e.pass_id = c.pass_id) OR coalesce(jsonb_typeof("
          "c.report->'marked') = 'number' AND c.report->'marked' > '0', false), {} FROM {} c "
          "WHERE {} ORDER BY c.started_at DESC, c.pass_id DESC LIMIT {}",
          table("run_events"), utc_text("c.started_at"), table("reconciliations"), condition, limit),
      command.params);
  if (!rows) return rows.error();
  AgedPassPage page;
  std::string last_time;
  for (const auto& row : *rows) {
    PgFields fields(row);
    AgedPass pass;
    pass.pass_id = fields.text();
    pass.trigger = fields.text();
    pass.age = std::chrono::milliseconds(std::max<std::int64_t>(0, fields.integer()));
    pass.bytes = fields.count();
    pass.marked = fields.boolean();
    last_time = fields.text();
    page.passes.push_back(std::move(pass));
  }
  if (page.passes.size() == limit) page.next = encode_cursor({last_time, page.passes.back().pass_id});
  return page;
}

Result<std::uint64_t> PgStore::remove_passes(std::span<const std::string> pass_ids) {
  if (pass_ids.empty()) return 0;
  const auto rows = connection_->exec(
      fmt::format("DELETE FROM {0} WHERE pass_id IN (SELECT pass_id FROM {0} WHERE pass_id = ANY (ARRAY(SELECT "
                  "jsonb_array_elements_text($1::jsonb))) FOR UPDATE SKIP LOCKED)",
                  table("reconciliations")),
      {json_list(pass_ids)});
  if (!rows) return removal_error(rows.error(), "old passes", table("reconciliations"));
  return static_cast<std::uint64_t>(rows->affected_rows());
}

Result<void> PgStore::keep_positions(const std::string& origin, std::span<const std::string> incarnations) {
  const PgConnection::Deadline deadline(*connection_);
  const auto kept = connection_->exec(
      fmt::format("UPDATE {} SET updated_at = now() WHERE recorder = $2::text AND incarnation = ANY (ARRAY(SELECT "
                  "jsonb_array_elements_text($3::jsonb))) AND updated_at < {}",
                  table("positions"), kSomeTimeAgo),
      {std::chrono::milliseconds(kPositionsRenewed).count(), origin, json_list(incarnations)});
  if (!kept) return kept.error();
  return {};
}

// The time is compared once more in the row that is held: a spool may have come back since it was read.
Result<std::uint64_t> PgStore::forget_positions(std::chrono::milliseconds unused_for, std::size_t spare,
                                                std::size_t limit) {
  const auto rows = connection_->exec(
      fmt::format(
          "WITH old AS MATERIALIZED (SELECT x.recorder, x.incarnation FROM (SELECT recorder, incarnation, "
          "updated_at, row_number() OVER (PARTITION BY recorder ORDER BY updated_at DESC, incarnation) AS place "
          "FROM {0}) x WHERE x.updated_at < {1} AND (x.place > {2} OR NOT EXISTS (SELECT 1 FROM {3} w WHERE "
          "w.id = x.recorder)) ORDER BY x.updated_at LIMIT {4}), "
          "held AS MATERIALIZED (SELECT p.recorder, p.incarnation FROM {0} p JOIN old USING (recorder, "
          "incarnation) WHERE p.updated_at < {1} FOR UPDATE OF p SKIP LOCKED) "
          "DELETE FROM {0} p USING held WHERE p.recorder = held.recorder AND p.incarnation = held.incarnation",
          table("positions"), kSomeTimeAgo, spare, table("recorders"), limit),
      {unused_for.count()});
  if (!rows) return removal_error(rows.error(), "old positions", table("positions"));
  return static_cast<std::uint64_t>(rows->affected_rows());
}

// A row that somebody holds is left: its recorder has come back, or another daemon removes it. One that changed
// meanwhile is compared again. Who is needed is taken out as a set, whose size no estimate gets wrong.
Result<ForgottenRecorders> PgStore::forget_recorders(std::chrono::milliseconds unseen_for, std::size_t limit) {
  const std::string unseen =
      fmt::format("SELECT w.id FROM {} w WHERE w.last_seen < {}", table("recorders"), kSomeTimeAgo);
  const auto any = connection_->exec(fmt::format("SELECT EXISTS ({})", unseen), {unseen_for.count()});
  if (!any) return any.error();
  if (!PgFields((*any)[0]).boolean()) return ForgottenRecorders{};
  const auto of_runs = [this](Status status) {
    return fmt::format("SELECT r.recorder COLLATE \"C\" FROM {} r WHERE {}", table("runs"), judged_rows(status));
  };
  const auto rows = connection_->exec(
      fmt::format(
          "WITH unneeded AS MATERIALIZED ({7} EXCEPT {4} EXCEPT {5} EXCEPT SELECT recorder COLLATE \"C\" FROM {2} "
          "EXCEPT SELECT recorder FROM {3} WHERE updated_at >= {1}), "
          "old AS MATERIALIZED (SELECT w.id FROM {0} w JOIN unneeded USING (id) WHERE w.last_seen < {1} "
          "ORDER BY w.last_seen LIMIT {6} FOR UPDATE OF w SKIP LOCKED), "
          "places AS (DELETE FROM {3} p USING old WHERE p.recorder = old.id AND p.updated_at < {1} RETURNING 1), "
          "gone AS (DELETE FROM {0} w USING old WHERE w.id = old.id RETURNING 1) "
          "SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM places)",
          table("recorders"), kSomeTimeAgo, table("dead_letters"), table("positions"), of_runs(Status::kRunning),
          of_runs(Status::kQueued), limit, unseen),
      {unseen_for.count()});
  if (!rows) return removal_error(rows.error(), "old recorders", table("recorders") + ", " + table("positions"));
  PgFields fields((*rows)[0]);
  ForgottenRecorders forgotten;
  forgotten.recorders = fields.count();
  forgotten.positions = fields.count();
  return forgotten;
}

}  // namespace run_recorder
