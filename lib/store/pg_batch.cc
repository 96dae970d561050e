#include "store/pg_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "store/pg_rows.h"
#include "store/transition_sql.h"

namespace run_recorder {
namespace {

// The keys of the JSON objects are short, because they are sent and parsed with every row.
struct Field {
  std::string_view key;
  std::string_view column;
};

constexpr std::array kRunFields{
    Field{"i", "run_id"},
    Field{"s", "status"},
    Field{"c", "council"},
    Field{"n", "attempt"},
    Field{"p", "parent_attempt_run_id"},
    Field{"j", "oban_job_id"},
    Field{"x", "input"},
    Field{"b", "started_at"},
    Field{"y", "result"},
    Field{"k", "error"},
    Field{"d", "finalized_at"},
    Field{"z", "oban_job_state_at_finalize"},
    Field{"g", "council_given"},
    Field{"h", "attempt_given"},
    Field{"r", "recorder"},
    Field{"w", "worker_process"},
    Field{"v", "sender_process"},
    Field{"o", "connection"},
    Field{"q", "last_seq"},
    Field{"m", "stuck_pass"},
    Field{"qu", "queue"},
    Field{"t", "job_id"},
    Field{"e", "expires_in"},
    Field{"us", "usage"},
    Field{"pr", "progress"},
};
constexpr std::span<const Field> kPlainRunFields = std::span(kRunFields).first(kRunFields.size() - 5);
// Only in updates: the version the decision was made from, which groups of columns the event changed, and which JSON
// columns stay as they are, because the row was loaded without them.
constexpr std::string_view kGuardRecord =
    ", a bigint, f boolean, u boolean, rc boolean, lx boolean, ly boolean, lk boolean";
constexpr std::array<std::string_view, 8> kFieldColumns{
    "council", "attempt", "parent_attempt_run_id", "oban_job_id", "input", "started_at", "queue", "job_id"};
constexpr std::array<std::string_view, 5> kOutcomeColumns{"result", "error", "finalized_at",
                                                          "oban_job_state_at_finalize", "stuck_pass"};
constexpr std::array<std::string_view, 3> kReportColumns{"expires_in", "usage", "progress"};
constexpr std::array<std::string_view, 3> kJsonColumns{"input", "result", "error"};
constexpr std::array<std::string_view, 3> kTextsOfOurs{"worker_process", "connection", "stuck_pass"};

constexpr std::array kHistoryFields{
    Field{"i", "run_id"},   Field{"q", "seq"},    Field{"t", "type"},        Field{"p", "payload"},
    Field{"e", "event_id"}, Field{"a", "at"},     Field{"v", "received_at"}, Field{"u", "peer_uid"},
    Field{"g", "peer_pid"}, Field{"f", "effect"}, Field{"s", "pass_id"},
};

template <std::size_t Size>
bool among(const std::array<std::string_view, Size>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string record_of(const PgSchema& schema, std::string_view table, std::span<const Field> fields) {
  std::string record = ") AS c (";
  for (const Field& field : fields) {
    if (&field != &fields.front()) record += ", ";
    record += fmt::format("{} {}", field.key, schema.column(table, field.column).type);
  }
  return record;
}

// What a JSON object leaves out where it is the usual value.
std::string value_of(const Field& field) {
  if (field.column == "recorder") return "coalesce(c.r, $1::text)";
  if (field.column == "sender_process") return "coalesce(c.v, c.w, '')";  // mostly the worker itself
  if (among(kTextsOfOurs, field.column)) return fmt::format("coalesce(c.{}, '')", field.key);
  if (field.column == "effect") return fmt::format("coalesce(c.{}, 'applied')", field.key);
  return fmt::format("c.{}", field.key);
}

std::string insert_of(const PgSchema& schema, std::span<const Field> fields) {
  std::string columns;
  std::string values;
  for (const Field& field : fields) {
    columns += fmt::format("{}, ", field.column);
    values += value_of(field) + ", ";
  }
  return fmt::format(
      "INSERT INTO {} ({}{}inserted_at, updated_at, last_event_at) SELECT {}{}{}, {}, {} FROM jsonb_to_recordset(",
      schema.table("runs"), PgBatch::filled_columns(schema, "runs"), columns, PgBatch::filled_values(schema, "runs"),
      values, schema.now_for("runs", "inserted_at"), schema.now_for("runs", "updated_at"),
      schema.now_for("runs", "last_event_at"));
}

std::string update_of(const PgSchema& schema, std::span<const Field> fields) {
  std::string sets;
  for (const Field& field : fields) {
    if (field.column == "run_id") continue;
    std::string value = value_of(field);
    if (among(kJsonColumns, field.column)) {
      value = fmt::format("CASE WHEN c.l{} THEN r.{} ELSE {} END", field.key, field.column, value);
    }
    if (among(kFieldColumns, field.column) || field.column.ends_with("_given")) {
      value = fmt::format("CASE WHEN c.f THEN {} ELSE r.{} END", value, field.column);
    } else if (among(kOutcomeColumns, field.column)) {
      value = fmt::format("CASE WHEN c.u THEN {} ELSE r.{} END", value, field.column);
    } else if (among(kReportColumns, field.column)) {
      value = fmt::format("CASE WHEN c.rc THEN {} ELSE r.{} END", value, field.column);
    }
    sets += fmt::format("{} = {}, ", field.column, value);
  }
  return fmt::format("UPDATE {} r SET {}updated_at = {}, last_event_at = {} FROM jsonb_to_recordset(",
                     schema.table("runs"), sets, schema.now_for("runs", "updated_at"),
                     schema.now_for("runs", "last_event_at"));
}

std::string history_of(const PgSchema& schema) {
  std::string columns;
  std::string values;
  for (const Field& field : kHistoryFields) {
    columns += fmt::format("{}, ", field.column);
    values += value_of(field) + ", ";
  }
  return fmt::format("INSERT INTO {} ({}{}inserted_at, recorder) SELECT {}{}{}, $1::text FROM jsonb_to_recordset(",
                     schema.table("run_events"), PgBatch::filled_columns(schema, "run_events"), columns,
                     PgBatch::filled_values(schema, "run_events"), values,
                     schema.now_for("run_events", "inserted_at"));
}

void put_json(JsonRecords& rows, std::string_view key, std::string_view key_to_leave, const JsonColumn& json) {
  json.loaded() ? rows.json(key, json.text()) : rows.boolean(key_to_leave, true);
}

void put_fields(JsonRecords& rows, const Run& run) {
  rows.text("c", run.council);
  rows.number("n", std::int64_t{run.attempt});
  rows.text("p", run.parent_attempt_run_id);
  rows.number("j", run.oban_job_id);
  rows.text("qu", run.queue);
  rows.text("t", run.job_id);
  put_json(rows, "x", "lx", run.input);
  rows.time("b", run.started_at);
  rows.boolean("g", run.council_given);
  rows.boolean("h", run.attempt_given);
}

void put_outcome(JsonRecords& rows, const Run& run) {
  put_json(rows, "y", "ly", run.result);
  put_json(rows, "k", "lk", run.error);
  rows.time("d", run.finalized_at);
  rows.text("z", run.oban_job_state_at_finalize);
}

void put_reports(JsonRecords& rows, const Run& run) {
  if (run.expires_in) rows.number("e", std::int64_t{*run.expires_in});
  rows.json("us", run.usage);
  rows.json("pr", run.progress);
}

void put_run(JsonRecords& rows, const RunChange& change, const std::string& self) {
  const Run& run = change.after;
  rows.begin();
  rows.text("i", run.run_id);
  rows.text("s", to_string(run.status));
  if (change.insert || change.fields_changed) put_fields(rows, run);
  if (change.insert || change.outcome_changed) put_outcome(rows, run);
  if (change.insert || change.reports_changed) put_reports(rows, run);
  if (run.recorder != self) rows.text("r", run.recorder);
  if (!run.worker_process.empty()) rows.text("w", run.worker_process);
  if (run.sender_process != run.worker_process) rows.text("v", run.sender_process);
  if (!run.connection.empty()) rows.text("o", run.connection);
  if (!run.stuck_pass.empty() && (change.insert || change.outcome_changed)) rows.text("m", run.stuck_pass);
  rows.number("q", run.last_seq);
  if (!change.insert) {
    rows.number("a", change.expected_last_seq);
    rows.boolean("f", change.fields_changed);
    rows.boolean("u", change.outcome_changed);
    if (change.reports_changed) rows.boolean("rc", true);
  }
  rows.end();
}

// By run_id, so that daemons that meet in the same rows lock them in the same order. Empty: there are none.
std::string runs_json(const BatchWrite& batch, bool insert, const std::string& self) {
  std::vector<const RunChange*> changes;
  for (const RunChange& change : batch.runs) {
    if (change.insert == insert) changes.push_back(&change);
  }
  if (changes.empty()) return {};
  std::sort(changes.begin(), changes.end(),
            [](const RunChange* a, const RunChange* b) { return a->after.run_id < b->after.run_id; });
  JsonRecords rows;
  for (const RunChange* change : changes) put_run(rows, *change, self);
  return std::move(rows).take();
}

std::string beats_json(const BatchWrite& batch) {
  std::vector<const BeatWrite*> beats;
  beats.reserve(batch.beats.size());
  for (const BeatWrite& beat : batch.beats) beats.push_back(&beat);
  std::ranges::sort(beats, {}, [](const BeatWrite* beat) -> const std::string& { return beat->run_id; });
  JsonRecords rows;
  for (const BeatWrite* beat : beats) {
    rows.begin();
    rows.text("i", beat->run_id);
    rows.text("w", beat->worker_process);
    rows.text("v", beat->sender_process);
    rows.text("o", beat->connection);
    if (beat->expires_in) rows.number("e", std::int64_t{*beat->expires_in});
    rows.end();
  }
  return std::move(rows).take();
}

std::string history_json(const BatchWrite& batch) {
  if (batch.history.empty()) return {};
  JsonRecords rows;
  for (const HistoryEntry& entry : batch.history) {
    rows.begin();
    rows.text("i", entry.run_id);
    rows.number("q", entry.seq);
    rows.text("t", entry.type);
    rows.json("p", entry.payload);
    rows.text("e", entry.event_id);
    rows.time("a", entry.at);
    rows.time("v", entry.received_at);
    if (entry.peer_uid) rows.number("u", std::int64_t{*entry.peer_uid});
    if (entry.peer_pid) rows.number("g", std::int64_t{*entry.peer_pid});
    if (entry.effect != Effect::kApplied) rows.text("f", to_string(entry.effect));
    if (!entry.pass_id.empty()) rows.text("s", entry.pass_id);
    rows.end();
  }
  return std::move(rows).take();
}

std::string hex(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", static_cast<unsigned char>(byte));
  return text;
}

// A name of ours, which has no quote but the double ones around it, as a text in SQL.
std::string quoted_literal(const std::string& name) {
  return "'" + name + "'";
}

// PostgreSQL's text holds no NUL, and a dead letter must not fail for what is in it.
std::string without_nul(std::string text) {
  std::replace(text.begin(), text.end(), '\0', '?');
  return text;
}

}  // namespace

std::string PgCommand::param(PgParam value, std::string_view type) {
  params.push_back(std::move(value));
  return fmt::format("${}::{}", params.size(), type);
}

std::string PgBatch::filled_columns(const PgSchema& schema, std::string_view table) {
  return fmt::format("{}{}", new_id(schema, table).empty() ? "" : "id, ",
                     has_updated_at(schema, table) ? "updated_at, " : "");
}

std::string PgBatch::filled_values(const PgSchema& schema, std::string_view table, std::string_view updated_at) {
  std::string values;
  if (const auto id = new_id(schema, table); !id.empty()) values += fmt::format("{}, ", id);
  if (!has_updated_at(schema, table)) return values;
  return values += fmt::format("{}, ", updated_at.empty() ? schema.now_for(table, "updated_at") : updated_at);
}

bool PgBatch::has_updated_at(const PgSchema& schema, std::string_view table) {
  return table == "run_events" && schema.tables.find(table)->second.columns.contains("updated_at");
}

std::string_view PgBatch::new_id(const PgSchema& schema, std::string_view table) {
  const auto& columns = schema.tables.find(table)->second.columns;
  const auto id = columns.find("id");
  if (id == columns.end() || id->second.given || id->second.base != "uuid") return {};
  constexpr int kHasRandomUuid = 130'000;
  if (schema.server_version >= kHasRandomUuid) return "gen_random_uuid()";
  return "md5(random()::text || random()::text || clock_timestamp()::text)::uuid";
}

PgBatch::PgBatch(const PgSchema& schema)
    : positions_(schema.table("positions")),
      recorders_(schema.table("recorders")),
      dead_letters_(schema.table("dead_letters")),
      runs_(schema.table("runs")),
      events_(schema.table("run_events")),
      pruned_(schema.table("pruned")),
      plain_rows_(row_sql(schema, false)),
      all_rows_(row_sql(schema, true)),
      // A removed run's late event makes no row: one fewer is inserted, and the decision is made again. A subquery
      // that is no join looks each id up by the key, however many are remembered.
      insert_guard_(fmt::format("(SELECT p.run_id FROM {} p WHERE p.run_id = c.i) IS NULL", schema.table("pruned"))),
      // A row that was taken over has no version yet: its history's length is.
      update_guard_(fmt::format("r.run_id = c.i AND (r.last_seq = c.a OR (r.last_seq = 0 AND c.a = {})) "
                                "AND (r.status NOT IN ({}) OR r.status = c.s)",
                                version_of_run(schema), sql_list(finished_statuses()))),
      beats_(fmt::format(
          "UPDATE {} r SET updated_at = {}, last_event_at = {}, sender_process = c.v, connection = c.o, "
          "worker_process = coalesce(c.w, r.worker_process), expires_in = coalesce(c.e, r.expires_in) "
          "FROM jsonb_to_recordset(",
          schema.table("runs"), schema.now_for("runs", "updated_at"), schema.now_for("runs", "last_event_at"))),
      beats_record_(
          fmt::format(") AS c (i {}, w text, v text, o text, e integer) WHERE r.run_id = c.i AND r.status = '{}' "
                      "AND r.recorder = $1::text",
                      schema.column("runs", "run_id").type, to_string(Status::kRunning))),
      history_(history_of(schema)),
      history_record_(record_of(schema, "run_events", kHistoryFields) + ")") {}

PgBatch::RowSql PgBatch::row_sql(const PgSchema& schema, bool optional_columns) {
  const std::span<const Field> fields = optional_columns ? std::span<const Field>(kRunFields) : kPlainRunFields;
  const std::string record = record_of(schema, "runs", fields);
  return {.insert = insert_of(schema, fields),
          .insert_record = record + ")",
          .update = update_of(schema, fields),
          .update_record = fmt::format("{}{})", record, kGuardRecord)};
}

bool PgBatch::fills_optional_columns(const BatchWrite& batch) {
  return std::ranges::any_of(batch.runs, [](const RunChange& change) {
    const Run& run = change.after;
    const bool job = run.queue || run.job_id;
    const bool reports = run.expires_in || run.usage || run.progress;
    return (job && (change.insert || change.fields_changed)) ||
           (reports && (change.insert || change.reports_changed));
  });
}

PgBatch::Counts PgBatch::expected(const BatchWrite& batch, Inserts inserts) {
  Counts counts;
  counts.moved = batch.incarnation.empty() ? 0 : 1;
  counts.retried = batch.retried.size();
  for (const RunChange& change : batch.runs) ++(change.insert ? counts.inserted : counts.updated);
  counts.beaten = batch.beats.size();
  counts.history = batch.history.size();
  if (inserts == Inserts::kCopied) counts.inserted = counts.history = 0;
  return counts;
}

std::string PgBatch::position_sql(PgCommand& command, const RecorderSelf& self, const BatchWrite& batch) const {
  const std::string owner = command.param(self.positions_of(), "text");
  const std::string incarnation = command.param(batch.incarnation, "text");
  const std::string to = command.param(batch.to, "bigint");
  const std::string from = command.param(batch.from, "bigint");
  // Where there is no row the position is 0.
  if (batch.from == 0) {
    return fmt::format(
        "INSERT INTO {} AS p (recorder, incarnation, applied) VALUES ({}, {}, {}) ON CONFLICT (recorder, "
        "incarnation) "
        "DO UPDATE SET applied = excluded.applied, updated_at = now() WHERE p.applied = {}",
        positions_, owner, incarnation, to, from);
  }
  return fmt::format(
      "UPDATE {} SET applied = {}, updated_at = now() WHERE recorder = {} AND incarnation = {} AND applied = {}",
      positions_, to, owner, incarnation, from);
}

std::string PgBatch::letters_sql(PgCommand& command, const std::string& self, const BatchWrite& batch) const {
  JsonRecords rows;
  for (const DeadLetter& letter : batch.dead_letters) {
    rows.begin();
    rows.text("i", without_nul(letter.run_id));
    rows.text("t", without_nul(letter.type));
    if (letter.event_id) rows.text("e", without_nul(*letter.event_id));
    rows.text("b", hex(letter.record));
    rows.text("l", without_nul(letter.line));
    rows.text("s", letter.sqlstate);
    rows.text("r", without_nul(letter.reason));
    rows.number("n", letter.tries);
    rows.time("v", letter.received_at);
    rows.end();
  }
  return fmt::format(
      "INSERT INTO {} (recorder, run_id, type, event_id, record, line, sqlstate, reason, tries, received_at) "
      "SELECT {}, i, t, e, decode(b, 'hex'), l, s, r, n, v FROM jsonb_to_recordset({}) "
      "AS c (i text, t text, e text, b text, l text, s text, r text, n bigint, v timestamptz)",
      dead_letters_, self, command.param(std::move(rows).take(), "jsonb"));
}

std::string PgBatch::retried_sql(PgCommand& command, const std::string& self, const BatchWrite& batch) const {
  const std::string ids = fmt::format("{{{}}}", fmt::join(batch.retried, ","));
  return fmt::format("DELETE FROM {} WHERE id = ANY ({}) AND recorder = {}", dead_letters_,
                     command.param(ids, "bigint[]"), self);
}

// dead_letters and dead_letters_removed are the table's, not the batch's: a letter may have been removed since the
// recorder counted them.
std::string PgBatch::ledger_sql(PgCommand& command, const RecorderSelf& self, const BatchWrite& batch) const {
  const auto letters =
      static_cast<std::int64_t>(batch.dead_letters.size()) - static_cast<std::int64_t>(batch.retried.size());
  return fmt::format(
      "INSERT INTO {} AS w (id, host, version, incarnation, applied, duplicate, conflicts, dead_letters) "
      "VALUES ($1::text, {}, {}, {}, {}, {}, {}, {}) ON CONFLICT (id) DO UPDATE SET applied = excluded.applied, "
      "duplicate = excluded.duplicate, conflicts = excluded.conflicts, "
      "dead_letters = w.dead_letters + excluded.dead_letters, last_seen = now() "
      "WHERE w.incarnation = excluded.incarnation",
      recorders_, command.param(self.host, "text"), command.param(self.version, "text"),
      command.param(self.incarnation, "text"), command.param(batch.ledger.applied, "bigint"),
      command.param(batch.ledger.duplicate, "bigint"), command.param(batch.ledger.conflicts, "bigint"),
      command.param(letters, "bigint"));
}

// Seen by a statement behind the copy, so that a run which is removed meanwhile is found too.
std::string PgBatch::pruned_sql(PgCommand& command, const BatchWrite& batch) const {
  std::string ids = "[";
  for (const RunChange& change : batch.runs) {
    if (!change.insert) continue;
    if (ids.size() > 1) ids += ',';
    append_json_string(ids, change.after.run_id);
  }
  return fmt::format(
      "CASE WHEN EXISTS (SELECT 1 FROM {0}) THEN (SELECT count(*) FROM {0} p WHERE p.run_id = ANY (ARRAY(SELECT "
      "jsonb_array_elements_text({1})))) ELSE 0 END",
      pruned_, command.param(ids + "]", "jsonb"));
}

PgCommand PgBatch::write(const RecorderSelf& self, const BatchWrite& batch, Inserts inserts) const {
  PgCommand command;
  const std::string me = command.param(self.id, "text");  // $1
  std::string parts;
  std::string counts;
  // A part that is there if `wanted` of its rows are, and the count of its rows.
  const auto add = [&](std::string_view name, std::uint64_t wanted, const auto& sql) {
    if (wanted > 0) parts += fmt::format("{} AS ({} RETURNING 1), ", name, sql());
    counts += wanted > 0 ? fmt::format("(SELECT count(*) FROM {}), ", name) : "0, ";
  };
  const auto rows = [&](std::string json) { return command.param(std::move(json), "jsonb"); };
  const Counts wanted = expected(batch, inserts);
  const RowSql& sql = fills_optional_columns(batch) ? all_rows_ : plain_rows_;
  add("moved", wanted.moved, [&] { return position_sql(command, self, batch); });
  add("updated", wanted.updated, [&] {
    return fmt::format("{}{}{} WHERE {}", sql.update, rows(runs_json(batch, false, self.id)), sql.update_record,
                       update_guard_);
  });
  add("beaten", wanted.beaten, [&] { return beats_ + rows(beats_json(batch)) + beats_record_; });
  add("retried", wanted.retried, [&] { return retried_sql(command, me, batch); });
  add("inserted", wanted.inserted, [&] {
    return fmt::format("{}{}{} WHERE {}", sql.insert, rows(runs_json(batch, true, self.id)), sql.insert_record,
                       insert_guard_);
  });
  add("history", wanted.history, [&] { return history_ + rows(history_json(batch)) + history_record_; });
  if (!batch.dead_letters.empty()) parts += fmt::format("letters AS ({}), ", letters_sql(command, me, batch));
  // Those that run before a row is inserted. Nobody can make one while this transaction has written into the tables.
  const std::string triggers = fmt::format(
      "(SELECT count(*) FROM pg_trigger WHERE tgrelid IN (to_regclass({}), to_regclass({})) AND NOT tgisinternal AND "
      "tgtype & 7 = 7)",
      quoted_literal(runs_), quoted_literal(events_));
  counts += inserts == Inserts::kCopied ? fmt::format("{}, {}", pruned_sql(command, batch), triggers) : "0, 0";
  command.sql = fmt::format("WITH {}ledger AS ({} RETURNING 1) SELECT {}, (SELECT count(*) FROM ledger)", parts,
                            ledger_sql(command, self, batch), counts);
  return command;
}

PgCommand PgBatch::moved(const RecorderSelf& self, const BatchWrite& batch) const {
  PgCommand command;
  const auto json = [&command](std::string text) {
    return command.param(text.empty() ? "[]" : std::move(text), "jsonb");
  };
  const std::string me = command.param(self.positions_of(), "text");
  const std::string position =
      fmt::format("SELECT coalesce((SELECT applied FROM {} WHERE recorder = {} AND incarnation = {}), 0) = {}",
                  positions_, me, command.param(batch.incarnation, "text"), command.param(batch.from, "bigint"));
  const std::string inserts = json(runs_json(batch, true, self.id));
  const std::string updates = json(runs_json(batch, false, self.id));
  const std::string history = json(history_json(batch));
  command.sql = fmt::format(
      "SELECT ({}), EXISTS (SELECT 1 FROM jsonb_to_recordset({} JOIN {} r ON r.run_id = c.i) "
      "OR EXISTS (SELECT 1 FROM jsonb_to_recordset({} WHERE NOT EXISTS (SELECT 1 FROM {} r WHERE {})) "
      "OR EXISTS (SELECT 1 FROM jsonb_to_recordset({} JOIN {} h ON h.run_id = c.i AND h.event_id = c.e)",
      position, inserts + plain_rows_.insert_record, runs_, updates + plain_rows_.update_record, runs_, update_guard_,
      history + history_record_, events_);
  return command;
}

}  // namespace run_recorder
