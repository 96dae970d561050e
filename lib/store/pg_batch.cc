#include "store/pg_batch.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/hex.h"
#include "store/pg_row_sql.h"
#include "store/transition_sql.h"

namespace run_recorder {
namespace {

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

PgBatch::PgBatch(const PgSchema& schema)
    : positions_(schema.table("positions")),
      recorders_(schema.table("recorders")),
      dead_letters_(schema.table("dead_letters")),
      runs_(schema.table("runs")),
      events_(schema.table("run_events")),
      pruned_(schema.table("pruned")),
      age_(age_select(schema)),
      plain_rows_(row_sql(schema, plain_run_columns())),
      all_rows_(row_sql(schema, run_columns())),
      updates_(schema),
      // A removed run's late event makes no row: one fewer is inserted, and the decision is made again. A subquery
      // that is no join looks each id up by the key, however many are remembered.
      insert_guard_(fmt::format("(SELECT p.run_id FROM {} p WHERE p.run_id = c.i) IS NULL", schema.table("pruned"))),
      // A row that was taken over has no version yet: its history's length is. A bare one was taken for running.
      update_guard_(fmt::format("r.run_id = c.i AND (r.last_seq = c.a OR (r.last_seq = 0 AND c.a = {})) "
                                "AND (r.status NOT IN ({}) OR r.status = c.s) AND (c.ba IS NULL OR r.status = '{}')",
                                version_of_run(schema), sql_list(finished_statuses()), to_string(Status::kRunning))),
      beats_{fmt::format(
                 "UPDATE {} r SET updated_at = {}, last_event_at = {}, sender_process = c.v, connection = c.o, "
                 "worker_process = coalesce(c.w, r.worker_process), expires_in = coalesce(c.e, r.expires_in) "
                 "FROM jsonb_to_recordset(",
                 schema.table("runs"), schema.now_for("runs", "updated_at"), schema.now_for("runs", "last_event_at")),
             fmt::format(") AS c (i {}, w text, v text, o text, e integer) WHERE r.run_id = c.i AND r.status = '{}' "
                         "AND r.recorder = $1::text",
                         schema.column("runs", "run_id").type, to_string(Status::kRunning))},
      history_(insert_history_sql(schema, RowSource::kEvents)) {}

PgBatch::RowSql PgBatch::row_sql(const PgSchema& schema, std::span<const RunColumn> columns) {
  return {.insert = insert_runs_sql(schema, columns, RowSource::kEvents), .update = update_runs_sql(schema, columns)};
}

PgBatch::Counts PgBatch::expected(const BatchWrite& batch, Inserts inserts, Changes changes) {
  Counts counts;
  counts.moved = batch.incarnation.empty() ? 0 : 1;
  counts.retried = batch.retried.size();
  counts.beaten = batch.beats.size();
  if (changes == Changes::kInPieces) return counts;
  for (const RunChange& change : batch.runs) ++(change.insert ? counts.inserted : counts.updated);
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
    rows.text("b", to_hex(letter.record));
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

PgCommand PgBatch::write(const RecorderSelf& self, const BatchWrite& batch, Inserts inserts, Changes changes) const {
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
  const Counts wanted = expected(batch, inserts, changes);
  const Updates updates = changes == Changes::kHere ? updates_of(batch, self.id) : Updates();
  const RowSql& sql = fills_optional_columns(batch) ? all_rows_ : plain_rows_;
  add("moved", wanted.moved, [&] { return position_sql(command, self, batch); });
  add("updated", updates.others.size(), [&] {
    return fmt::format("{} WHERE {}", sql.update.with(rows(changes_json(updates.others, self.id))), update_guard_);
  });
  add("beaten", wanted.beaten, [&] { return beats_.with(rows(beats_json(batch))); });
  add("retried", wanted.retried, [&] { return retried_sql(command, me, batch); });
  add("inserted", wanted.inserted, [&] {
    return fmt::format("{} WHERE {}", sql.insert.with(rows(runs_json(batch, true, self.id))), insert_guard_);
  });
  add("history", wanted.history, [&] { return history_.with(rows(history_json(batch.history))); });
  if (!batch.dead_letters.empty()) parts += fmt::format("letters AS ({}), ", letters_sql(command, me, batch));
  // Those that run before a row is inserted. Nobody can make one while this transaction has written into the tables.
  const std::string triggers = fmt::format(
      "(SELECT count(*) FROM pg_trigger WHERE tgrelid IN (to_regclass({}), to_regclass({})) AND NOT tgisinternal AND "
      "tgtype & 7 = 7)",
      quoted_literal(runs_), quoted_literal(events_));
  counts += inserts == Inserts::kCopied ? fmt::format("{}, {}", pruned_sql(command, batch), triggers) : "0, 0";
  parts += fmt::format("ledger AS ({} RETURNING 1)", ledger_sql(command, self, batch));
  counts += ", (SELECT count(*) FROM ledger)";
  const auto add_update = [&](std::string_view name, UpdateKind kind, std::span<const RunChange* const> updated) {
    counts += updated.empty() ? ", 0" : fmt::format(", (SELECT count(*) FROM {})", name);
    if (updated.empty()) return;
    parts += fmt::format(", {} AS ({} RETURNING 1)", name, updates_.sql(command, kind, updated, update_guard_));
  };
  add_update("stepped", UpdateKind::kStep, updates.steps);
  add_update("ended", UpdateKind::kEnd, updates.ends);
  command.sql = fmt::format("WITH {} SELECT {}, {}", parts, counts, age_);
  return command;
}

Result<bool> PgBatch::run_pieces(const RecorderSelf& self, const BatchWrite& batch, Inserts inserts, std::size_t rows,
                                 const RunPiece& run) const {
  const auto each = [&](const auto& all, const auto& sql_of) -> Result<bool> {
    const std::span parts(all);
    for (std::size_t done = 0; done < parts.size(); done += rows) {
      const auto part = parts.subspan(done, std::min(rows, parts.size() - done));
      Piece piece;
      piece.command.param(self.id, "text");  // $1
      piece.command.sql = sql_of(piece.command, part);
      piece.rows = part.size();
      if (auto ran = run(piece); !ran || !*ran) return ran;
    }
    return true;
  };
  const RowSql& sql = fills_optional_columns(batch) ? all_rows_ : plain_rows_;
  const auto fed_by_json = [](PgCommand& command, const PgRowSql& with, std::string json) {
    return with.with(command.param(std::move(json), "jsonb"));
  };
  using Changed = std::span<const RunChange* const>;
  const Updates updates = updates_of(batch, self.id);
  auto ran = each(updates.others, [&](PgCommand& command, Changed part) {
    return fmt::format("{} WHERE {}", fed_by_json(command, sql.update, changes_json(part, self.id)), update_guard_);
  });
  const auto by_arrays = [&](UpdateKind kind) {
    return
        [this, kind](PgCommand& command, Changed part) { return updates_.sql(command, kind, part, update_guard_); };
  };
  if (ran && *ran) ran = each(updates.steps, by_arrays(UpdateKind::kStep));
  if (ran && *ran) ran = each(updates.ends, by_arrays(UpdateKind::kEnd));
  if (!ran || !*ran || inserts == Inserts::kCopied) return ran;
  ran = each(changes_of(batch, true), [&](PgCommand& command, Changed part) {
    return fmt::format("{} WHERE {}", fed_by_json(command, sql.insert, changes_json(part, self.id)), insert_guard_);
  });
  if (!ran || !*ran) return ran;
  return each(batch.history, [&](PgCommand& command, std::span<const HistoryEntry> part) {
    return fed_by_json(command, history_, history_json(part));
  });
}

PgBatch::Updates PgBatch::updates_of(const BatchWrite& batch, std::string_view self) const {
  Updates updates;
  for (const RunChange& change : batch.runs) {
    if (change.insert) continue;
    const UpdateKind kind = updates_.kind_of(change, self);
    (kind == UpdateKind::kStep  ? updates.steps
     : kind == UpdateKind::kEnd ? updates.ends
                                : updates.others)
        .push_back(&change);
  }
  // So that daemons that meet in the same rows lock them in the same order.
  for (auto* changes : {&updates.steps, &updates.ends, &updates.others}) {
    std::ranges::sort(*changes, {},
                      [](const RunChange* change) -> const std::string& { return change->after.run_id; });
  }
  return updates;
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
  const std::string history = json(history_json(batch.history));
  command.sql = fmt::format(
      "SELECT ({}), EXISTS (SELECT 1 FROM jsonb_to_recordset({} JOIN {} r ON r.run_id = c.i) "
      "OR EXISTS (SELECT 1 FROM jsonb_to_recordset({} WHERE NOT EXISTS (SELECT 1 FROM {} r WHERE {})) "
      "OR EXISTS (SELECT 1 FROM jsonb_to_recordset({} JOIN {} h ON h.run_id = c.i AND h.event_id = c.e)",
      position, inserts + plain_rows_.insert.record, runs_, updates + plain_rows_.update.record, runs_, update_guard_,
      history + history_.record, events_);
  return command;
}

}  // namespace run_recorder
