// What a pass of the reconciliation reads and writes in PostgreSQL.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "base/json_text.h"
#include "base/json_writer.h"
#include "base/number.h"
#include "store/pg_array.h"
#include "store/pg_store.h"
#include "store/transition_sql.h"

namespace run_recorder {
namespace {

// Rows that one transaction of an undo returns.
constexpr std::size_t kPgUndoBatch = 1'000;

// Of the server, at the moment of its evaluation: a transaction may have waited.
std::string milliseconds_since(std::string_view instant) {
  return fmt::format("(date_part('epoch', clock_timestamp() - {}) * 1000)::bigint", instant);
}

PgParam time_param(std::optional<Timestamp> time) {
  return time ? PgParam(format_rfc3339(*time)) : PgParam(std::nullopt);
}

RunningRow read_running_row(const pqxx::row& row) {
  const auto not_negative = [](std::int64_t ms) { return std::chrono::milliseconds(std::max<std::int64_t>(0, ms)); };
  PgBareFields fields(row);
  RunningRow running;
  running.run = read_run(fields, RunParts::kBare);
  if (const auto seen_ms = fields.optional_integer()) running.recorder_seen_ago = not_negative(*seen_ms);
  running.dead_letter = fields.boolean();
  const std::int64_t silence_ms = fields.integer();
  running.silence = not_negative(silence_ms);
  running.in_future = silence_ms < 0;
  running.last_event = fields.text();
  return running;
}

std::vector<RunningRow> read_running_rows(const pqxx::result& rows) {
  std::vector<RunningRow> running;
  running.reserve(rows.size());
  for (const auto& row : rows) running.push_back(read_running_row(row));
  return running;
}

}  // namespace

Result<Timestamp> PgStore::database_now() {
  const auto rows = connection_->exec("SELECT " + utc_text("clock_timestamp()"));
  if (!rows) return rows.error();
  const auto now = PgFields((*rows)[0]).time();
  if (!now) return Error{ErrorKind::kUnavailable, "the database's clock is beyond the year 9999"};
  return *now;
}

Result<std::optional<std::chrono::milliseconds>> PgStore::server_age() {
  const auto rows = connection_->exec("SELECT " + milliseconds_since("pg_postmaster_start_time()"));
  if (!rows) return rows.error();
  return std::optional(std::chrono::milliseconds(PgFields((*rows)[0]).integer()));
}

Result<bool> PgStore::acquire_lease(std::string_view name, std::string_view holder,
                                    std::chrono::milliseconds expiry) {
  const auto taken = connection_->exec(
      fmt::format("INSERT INTO {} AS l (name, holder, expires_at) "
                  "VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 millisecond') ON CONFLICT (name) DO "
                  "UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at "
                  "WHERE l.holder = excluded.holder OR l.expires_at <= clock_timestamp()",
                  table("leases")),
      {name, holder, expiry.count()});
  if (!taken) return taken.error();
  return taken->affected_rows() == 1;
}

Result<void> PgStore::release_lease(std::string_view name, std::string_view holder) {
  const auto released = connection_->exec(
      fmt::format("DELETE FROM {} WHERE name = $1 AND holder = $2", table("leases")), {name, holder});
  if (!released) return released.error();
  return {};
}

// After the columns of a bare run: when its recorder was seen, whether an event of it is a dead letter, how long ago
// and when its last event was applied.
std::string PgStore::running_row_sql(std::string_view where) const {
  const std::string last_event = last_event_instant(schema_);
  return fmt::format(
      "SELECT {0}, {1}, EXISTS (SELECT 1 FROM {2} d WHERE d.run_id = r.run_id), {3}, "
      "{4} FROM {5} r "
      "LEFT JOIN {6} w ON w.id = r.recorder WHERE {7}",
      run_list(schema_, RunParts::kBare), milliseconds_since("w.last_seen"), table("dead_letters"),
      milliseconds_since(last_event), microseconds_of(last_event), table("runs"), table("recorders"), where);
}

// The condition on the last event of runs r; the bounds as parameters are named.
std::string PgStore::within_sql(std::string_view before, std::string_view ahead_of,
                                std::string_view not_before) const {
  return fmt::format(
      "({0} <= {1}::timestamptz OR {0} > {2}::timestamptz) AND ({3}::timestamptz IS NULL OR {0} >= {3}::timestamptz)",
      last_event_instant(schema_), before, ahead_of, not_before);
}

// Whether running_groups() counts a run r in a group.
std::string PgStore::in_a_group_sql(bool with_jobs) const {
  return fmt::format("NOT EXISTS (SELECT 1 FROM {} d WHERE d.run_id = r.run_id){}", table("dead_letters"),
                     with_jobs ? "" : " AND r.oban_job_id IS NULL AND r.job_id IS NULL");
}

Result<RunningGroups> PgStore::running_groups(const EventWindow& window, bool with_jobs, std::size_t limit) {
  const auto rows = connection_->exec(
      fmt::format("SELECT recorder, worker_process, sender_process, connection, expires, rows, grouped, total FROM "
                  "(SELECT r.recorder, r.worker_process, r.sender_process, r.connection, r.expires_in IS NOT NULL "
                  "AS expires, {0} AS grouped, count(*) AS rows, (sum(count(*)) OVER ())::bigint AS total "
                  "FROM {1} r WHERE {2} AND {3} GROUP BY 1, 2, 3, 4, 5, 6) g "
                  "ORDER BY grouped DESC, rows DESC, connection LIMIT $4::bigint",
                  in_a_group_sql(with_jobs), table("runs"), judged_rows(Status::kRunning),
                  within_sql("$1", "$2", "$3")),
      {format_rfc3339(window.before), time_param(window.ahead_of), time_param(window.not_before), limit});
  if (!rows) return rows.error();
  RunningGroups found;
  found.with_jobs = with_jobs;
  for (const auto& row : *rows) {
    PgFields fields(row);
    add_group(found, fields);
  }
  return found;
}

Result<std::vector<RunningRow>> PgStore::rows_within(std::string_view which, std::string_view after,
                                                     std::size_t limit, const EventWindow& window,
                                                     const RunningGroups& without) {
  std::string where = fmt::format("{} AND r.run_id > $1 AND {}", which, within_sql("$2", "$3", "$4"));
  std::vector<PgParam> params{after, format_rfc3339(window.before), time_param(window.ahead_of),
                              time_param(window.not_before), limit};
  if (!without.groups.empty()) {
    PgArray recorders(PgArray::Type::kText), workers(PgArray::Type::kText), senders(PgArray::Type::kText),
        connections(PgArray::Type::kText), expires(PgArray::Type::kBoolean);
    for (const RunningGroup& group : without.groups) {
      recorders.text(group.recorder);
      workers.text(group.worker_process);
      senders.text(group.sender_process);
      connections.text(group.connection);
      expires.boolean(group.expires);
    }
    for (PgArray* array : {&recorders, &workers, &senders, &connections, &expires}) {
      params.push_back(PgParam::binary(std::move(*array).take()));
    }
    where += fmt::format(
        " AND NOT ({} AND (r.recorder, r.worker_process, r.sender_process, r.connection, r.expires_in IS NOT NULL) IN "
        "(SELECT * FROM unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::boolean[])))",
        in_a_group_sql(without.with_jobs));
  }
  const auto rows = connection_->exec(running_row_sql(where + " ORDER BY r.run_id LIMIT $5::bigint"), params);
  if (!rows) return rows.error();
  return read_running_rows(*rows);
}

Result<std::vector<RunningRow>> PgStore::running_rows(std::string_view after, std::size_t limit,
                                                      const EventWindow& window, const RunningGroups& without) {
  return rows_within(judged_rows(Status::kRunning), after, limit, window, without);
}

Result<std::vector<RunningRow>> PgStore::queued_rows(std::string_view after, std::size_t limit,
                                                     const EventWindow& window) {
  return rows_within(judged_rows(Status::kQueued), after, limit, window);
}

Result<std::uint64_t> PgStore::count_since(std::string_view which, Timestamp after, std::optional<Timestamp> until) {
  const std::optional<std::string> last = until ? std::optional(format_rfc3339(*until)) : std::nullopt;
  const auto rows = connection_->exec(
      fmt::format("SELECT count(*) FROM {0} r WHERE {1} AND {2} > $1::timestamptz AND ($2::timestamptz IS NULL OR "
                  "{2} <= $2::timestamptz)",
                  table("runs"), which, last_event_instant(schema_)),
      {format_rfc3339(after), last});
  if (!rows) return rows.error();
  return PgFields((*rows)[0]).count();
}

Result<std::uint64_t> PgStore::count_running_since(Timestamp after, std::optional<Timestamp> until) {
  return count_since(judged_rows(Status::kRunning), after, until);
}

Result<std::uint64_t> PgStore::count_queued_since(Timestamp after) {
  return count_since(judged_rows(Status::kQueued), after, std::nullopt);
}

Result<RunningCouncils> PgStore::running_councils(std::size_t limit) {
  const auto rows = connection_->exec(
      fmt::format(
          "SELECT r.council, count(*), (sum(count(*)) OVER ())::bigint FROM (SELECT r.council FROM {} r WHERE {} "
          "ORDER BY r.run_id LIMIT {}) r GROUP BY r.council ORDER BY count(*) DESC, r.council LIMIT $1::bigint",
          table("runs"), judged_rows(Status::kRunning), kCountedRows),
      {limit});
  if (!rows) return rows.error();
  RunningCouncils running;
  for (const auto& row : *rows) {
    PgFields fields(row);
    add_running(running, fields);
  }
  return running;
}

// Each part is read by an index of its own.
Result<std::vector<RecentCouncil>> PgStore::recent_councils(std::string_view recorder, std::size_t rows,
                                                            std::size_t limit) {
  const auto newest = [this](std::string_view which, std::string_view order) {
    return fmt::format(
        "(SELECT r.council, r.status, r.recorder, {} AS started, {} AS inserted, {} AS ended, {} AS updated FROM {} r "
        "WHERE {} ORDER BY r.{} DESC LIMIT $1::bigint)",
        schema_.instant("runs", "started_at", "r"), schema_.instant("runs", "inserted_at", "r"),
        schema_.instant("runs", "finalized_at", "r"), schema_.instant("runs", "updated_at", "r"), table("runs"),
        which, order);
  };
  const auto found = connection_->exec(
      fmt::format(
          "SELECT council, {}, {} FROM ({} UNION ALL {}) newest WHERE recorder IN ($2::text, '') "
          "GROUP BY council ORDER BY count(*) DESC, max(started) DESC NULLS LAST, council LIMIT $3::bigint",
          utc_text("max(least(started, inserted)) FILTER (WHERE started IS NOT NULL)"),
          utc_text(fmt::format("max(least(ended, updated)) FILTER (WHERE ended IS NOT NULL AND status = '{}')",
                               to_string(Status::kCompleted))),
          newest("r.started_at IS NOT NULL", "started_at"), newest("r.started_at IS NULL", "inserted_at")),
      {rows, recorder, limit});
  if (!found) return found.error();
  std::vector<RecentCouncil> councils;
  for (const auto& row : *found) {
    PgFields fields(row);
    councils.push_back(read_recent_council(fields));
  }
  return councils;
}

// Hashed, however many there are; a list of parameters would be compared one by one before PostgreSQL 14.
Result<std::vector<RunningRow>> PgStore::running_rows_of(std::span<const std::string> processes,
                                                         std::span<const std::string> connections,
                                                         std::string_view after, std::size_t limit) {
  const std::string where = fmt::format(
      "{} AND r.run_id > $1 AND (r.worker_process IN (SELECT jsonb_array_elements_text($2::jsonb)) "
      "OR r.sender_process IN (SELECT jsonb_array_elements_text($2::jsonb)) "
      "OR r.connection IN (SELECT jsonb_array_elements_text($3::jsonb))) ORDER BY r.run_id LIMIT $4::bigint",
      judged_rows(Status::kRunning));
  const auto rows =
      connection_->exec(running_row_sql(where), {after, json_list(processes), json_list(connections), limit});
  if (!rows) return rows.error();
  return read_running_rows(*rows);
}

Result<std::vector<RunningRow>> PgStore::long_running(Timestamp started_until, std::string_view after,
                                                      std::size_t limit) {
  const std::string where =
      fmt::format("r.status = '{}' AND r.run_id > $1 AND {} <= $2::timestamptz ORDER BY r.run_id LIMIT $3::bigint",
                  to_string(Status::kRunning), schema_.instant("runs", "started_at", "r"));
  const auto rows = connection_->exec(running_row_sql(where), {after, format_rfc3339(started_until), limit});
  if (!rows) return rows.error();
  return read_running_rows(*rows);
}

Result<std::vector<RunningRow>> PgStore::rows_named(std::span<const std::string> run_ids) {
  const auto rows = connection_->exec(running_row_sql("r.run_id IN (SELECT jsonb_array_elements_text($1::jsonb))"),
                                      {json_list(run_ids)});
  if (!rows) return rows.error();
  return read_running_rows(*rows);
}

Result<std::optional<RunningRow>> PgStore::running_row(std::string_view run_id) {
  const auto rows = connection_->exec(running_row_sql("r.run_id = $1"), {run_id});
  if (!rows) return rows.error();
  if (rows->empty()) return std::optional<RunningRow>();
  return std::optional(read_running_row((*rows)[0]));
}

// $1 the pass, $2 the recorder, then arrays of the marks' members (see mark_stuck()); gives the run_ids that were
// marked.
std::string PgStore::mark_sql(const BulkTransition& to) const {
  const auto type = [this](std::string_view column) { return schema_.column("runs", column).type; };
  const auto now = [this](std::string_view column) { return schema_.now_for("runs", column); };
  const std::string change = fmt::format(
      "status = '{}'{}{}{}{}, stuck_pass = $1, last_seq = c.a + {}, updated_at = {}", to_string(to.status),
      assignment("error", to.outcome, {}, fmt::format("c.k::{}", type("error"))),
      assignment("oban_job_state_at_finalize", to.outcome, {},
                 fmt::format("c.z::{}", type("oban_job_state_at_finalize"))),
      assignment("finalized_at", to.finalized_at, now("finalized_at")),
      assignment("last_event_at", to.last_event_at, now("last_event_at")), to.seq_step, now("updated_at"));
  const std::string unmoved = fmt::format(
      "r.run_id = c.i::{} AND r.status = CASE WHEN c.q THEN '{}'::{} ELSE '{}' END AND c.a = {} AND (c.l IS NULL OR "
      "c.l = {})",
      type("run_id"), to_string(Status::kQueued), type("status"), to_string(Status::kRunning),
      version_of_run(schema_), microseconds_of(last_event_instant(schema_)));
  return fmt::format(
      "WITH marked AS (UPDATE {} r SET {} FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], "
      "$8::boolean[]) AS c (i, a, k, z, l, q) WHERE {} RETURNING r.run_id, r.last_seq, r.error), "
      "history AS ({} '{}', error, '{}', $1, $2, {} FROM marked) SELECT run_id FROM marked",
      table("runs"), change, unmoved, insert_found_sql(), to.type, to_string(to.effect), found_times_sql());
}

// The beginning of the history's entry for rows (run_id, last_seq) that a statement changed: type, payload, effect,
// pass_id, recorder and found_times_sql() follow.
std::string PgStore::insert_found_sql() const {
  return fmt::format(
      "INSERT INTO {} ({}run_id, seq, type, payload, effect, pass_id, recorder, received_at, inserted_at) "
      "SELECT {}run_id, last_seq,",
      table("run_events"), filled_columns(schema_, "run_events"), filled_values(schema_, "run_events"));
}

std::string PgStore::found_times_sql() const {
  return fmt::format("{}, {}", schema_.now_for("run_events", "received_at"),
                     schema_.now_for("run_events", "inserted_at"));
}

Result<std::vector<std::string>> PgStore::mark_stuck(const RecorderSelf& self, std::string_view pass_id,
                                                     std::span<const StuckMark> marks) {
  std::vector<std::string> marked;
  if (marks.empty()) return marked;
  std::vector<const StuckMark*> sorted;
  for (const StuckMark& mark : marks) sorted.push_back(&mark);
  std::sort(sorted.begin(), sorted.end(),
            [](const StuckMark* a, const StuckMark* b) { return a->run_id < b->run_id; });
  PgArray ids(PgArray::Type::kText), versions(PgArray::Type::kBigint), errors(PgArray::Type::kText),
      job_states(PgArray::Type::kText), last_events(PgArray::Type::kBigint), queued(PgArray::Type::kBoolean);
  for (const StuckMark* mark : sorted) {
    ids.text(mark->run_id);
    versions.bigint(mark->expected_last_seq);
    errors.text(mark->error);
    mark->job_state ? job_states.text(*mark->job_state) : job_states.null();
    if (mark->expected_last_event) {
      last_events.bigint(parse_number<std::int64_t>(*mark->expected_last_event).value_or(0));
    } else {
      last_events.null();
    }
    queued.boolean(mark->expected_status == Status::kQueued);
  }
  const auto binary = [](PgArray& array) { return PgParam::binary(std::move(array).take()); };
  const auto done =
      exec_giving_ids(mark_sql(stuck_transition()), {pass_id, self.id, binary(ids), binary(versions), binary(errors),
                                                     binary(job_states), binary(last_events), binary(queued)});
  if (!done) return done.error();
  for (const auto& row : *done) marked.push_back(PgFields(row).text());
  return marked;
}

// Each step has the whole deadline for itself: a pass may have marked a million rows.
Result<Store::Undone> PgStore::undo_pass(const RecorderSelf& self, std::string_view pass_id) {
  const auto known = connection_->exec(fmt::format("SELECT EXISTS (SELECT 1 FROM {} WHERE pass_id = $1) "
                                                   "OR EXISTS (SELECT 1 FROM {} WHERE pass_id = $1)",
                                                   table("reconciliations"), table("run_events")),
                                       {pass_id});
  if (!known) return known.error();
  if (!PgFields((*known)[0]).boolean()) {
    return Error{ErrorKind::kNotFound, fmt::format("there is no pass {}", pass_id)};
  }
  Undone undone;
  std::string last_run_id;
  for (;;) {
    const Result<UndoStep> step = undo_some(self, pass_id, last_run_id);
    if (!step) return step.error();
    if (step->seen == 0) return undone;
    undone.undone += step->undone;
    undone.moved += step->seen - step->undone;
    last_run_id = step->last_run_id;
  }
}

// $1 the pass, $2 the last run_id seen, $3 and $5 the payloads, $4 the recorder. To queued where the evidence says
// so.
std::string PgStore::undo_sql(const UndoTransition& running, const UndoTransition& queued) const {
  const auto now = [this](std::string_view column) { return schema_.now_for("runs", column); };
  const BulkTransition& to = running;  // but for the status and the payload they are the same
  assert(queued.type == to.type && queued.effect == to.effect && queued.seq_step == to.seq_step);
  const std::string change = fmt::format(
      "status = CASE WHEN r.error::jsonb #>> '{{evidence,status}}' = '{0}' THEN '{0}'::{1} ELSE '{2}' "
      "END{3}{4}{5}{6}, "
      "last_seq = r.last_seq + {7}, updated_at = {8}",
      to_string(queued.status), schema_.column("runs", "status").type, to_string(running.status),
      assignment("error", to.outcome, {}), assignment("oban_job_state_at_finalize", to.outcome, {}),
      assignment("finalized_at", to.finalized_at, now("finalized_at")),
      assignment("last_event_at", to.last_event_at, now("last_event_at")), to.seq_step, now("updated_at"));
  const BulkTransition from = stuck_transition();
  const std::string payload_type = schema_.column("run_events", "payload").type;
  return fmt::format(
      "WITH seen AS MATERIALIZED (SELECT h.run_id, h.seq FROM {0} h WHERE h.pass_id = $1 "
      "AND h.type = '{1}' AND h.run_id > $2 ORDER BY h.run_id LIMIT {2}), "
      "undone AS (UPDATE {3} r SET {4} FROM seen WHERE r.run_id = seen.run_id AND r.status = '{5}' "
      "AND r.stuck_pass = $1 AND r.last_seq = seen.seq RETURNING r.run_id, r.last_seq, r.status), "
      "history AS ({6} '{7}', CASE WHEN status = '{8}' THEN $5::{9} ELSE $3::{9} END, '{10}', $1, $4, {11} "
      "FROM undone) "
      "SELECT (SELECT count(*) FROM seen), (SELECT count(*) FROM undone), "
      "(SELECT run_id FROM seen ORDER BY run_id DESC LIMIT 1)",
      table("run_events"), from.type, kPgUndoBatch, table("runs"), change, to_string(from.status), insert_found_sql(),
      to.type, to_string(queued.status), payload_type, to_string(to.effect), found_times_sql());
}

Result<PgStore::UndoStep> PgStore::undo_some(const RecorderSelf& self, std::string_view pass_id,
                                             const std::string& after) {
  const UndoTransition running = undo_transition(Status::kRunning, pass_id);
  const UndoTransition queued = undo_transition(Status::kQueued, pass_id);
  const auto rows =
      exec_giving_ids(undo_sql(running, queued), {pass_id, after, running.payload, self.id, queued.payload});
  if (!rows) return rows.error();
  PgFields fields((*rows)[0]);
  UndoStep step;
  step.seen = fields.count();
  step.undone = fields.count();
  step.last_run_id = fields.text();
  return step;
}

Result<void> PgStore::save_reconciliation(const ReconciliationRow& row) {
  std::optional<std::string> finished_at;
  if (row.finished_at) finished_at = format_rfc3339(*row.finished_at);
  const auto saved = connection_->exec(
      fmt::format(
          "INSERT INTO {} (pass_id, recorder, trigger, started_at, finished_at, report) "
          "VALUES ($1, $2, $3, $4::timestamptz, $5::timestamptz, $6::jsonb) ON CONFLICT (pass_id) DO UPDATE SET "
          "recorder = excluded.recorder, trigger = excluded.trigger, started_at = excluded.started_at, "
          "finished_at = excluded.finished_at, report = excluded.report",
          table("reconciliations")),
      {row.pass_id, row.recorder, row.trigger, format_rfc3339(row.started_at), finished_at, row.report});
  if (!saved) return saved.error();
  return {};
}

}  // namespace run_recorder
