// Rows out of PostgreSQL and from another database into it.
#include <fmt/format.h>

#include <set>

#include "base/hex.h"
#include "store/moving.h"
#include "store/paging.h"
#include "store/pg_store.h"

namespace run_recorder {
// ---- out

Result<PrunedPage> PgStore::list_pruned(std::size_t limit, std::string_view cursor) {
  const auto after = decode_id_cursor(cursor);
  if (!after) return invalid_cursor(cursor);
  const auto rows = connection_->exec(fmt::format("SELECT run_id, {} FROM {} WHERE run_id > $1 "
                                                  "ORDER BY run_id LIMIT {}",
                                                  utc_text("pruned_at"), table("pruned"), limit),
                                      {*after});
  if (!rows) return rows.error();
  PrunedPage page;
  for (const auto& row : *rows) {
    PgFields fields(row);
    PrunedRun& run = page.runs.emplace_back();
    run.run_id = fields.text();
    run.pruned_at = fields.time().value_or(Timestamp{});
  }
  if (page.runs.size() == limit) page.next = encode_id_cursor(page.runs.back().run_id);
  return page;
}

Result<std::vector<RecorderRow>> PgStore::list_recorders(std::string_view after, std::size_t limit) {
  // One statement, so that ledger and positions are of one moment.
  const auto rows = connection_->exec(
      fmt::format("SELECT w.id, w.host, w.version, w.incarnation, {0}, {1}, "
                  "w.applied, w.duplicate, w.dead_letters, w.dead_letters_removed, w.conflicts, p.incarnation, "
                  "p.applied FROM (SELECT * FROM {2} WHERE id > $1 ORDER BY id LIMIT {3}) w LEFT JOIN {4} p "
                  "ON p.recorder = w.id ORDER BY w.id",
                  utc_text("w.first_seen"), utc_text("w.last_seen"), table("recorders"), limit, table("positions")),
      {std::string(after)});
  if (!rows) return rows.error();
  std::vector<RecorderRow> recorders;
  for (const auto& row : *rows) {
    PgFields fields(row);
    RecorderRow recorder = read_recorder(fields);
    if (recorders.empty() || recorders.back().self.id != recorder.self.id) recorders.push_back(std::move(recorder));
    if (auto incarnation = fields.optional_text()) {
      recorders.back().checkpoint.applied.emplace(std::move(*incarnation), fields.count());
    }
  }
  return recorders;
}

// ---- in

Result<std::vector<bool>> PgStore::insert_whole(std::span<const MovedRun> runs) {
  std::vector<bool> added(runs.size());
  if (runs.empty()) return added;
  // A subquery that is no join looks each id up by the key, whatever the tables' statistics say.
  constexpr std::string_view kStatement =
      "WITH added AS ({0} WHERE (SELECT 1 FROM {1} h WHERE h.run_id = c.i LIMIT 1) IS NULL ON CONFLICT DO NOTHING "
      "RETURNING run_id), known AS (DELETE FROM {2} WHERE run_id IN (SELECT run_id FROM added)), "
      "history AS ({3} WHERE c.i IN (SELECT run_id FROM added)) SELECT run_id FROM added";
  const MovedJson json = moved_json(runs);
  const auto rows = exec_giving_ids(fmt::format(kStatement, moved_run_.with("$1::jsonb"), table("run_events"),
                                                table("pruned"), moved_history_.with("$2::jsonb")),
                                    {json.runs, json.history});
  if (!rows) return rows.error();
  std::set<std::string, std::less<>> ids;
  for (const auto& row : *rows) ids.insert(PgFields(row).text());
  for (std::size_t i = 0; i < runs.size(); ++i) added[i] = ids.contains(runs[i].run.run_id);
  return added;
}

Result<void> PgStore::insert_history(std::string_view run_id, std::span<const StoredEvent> part) {
  if (part.empty()) return {};
  const auto rows = exec_giving_ids(
      fmt::format("WITH added AS ({} WHERE NOT EXISTS (SELECT 1 FROM {} r WHERE r.run_id = $2) RETURNING 1) SELECT "
                  "count(*) FROM added",
                  moved_history_.with("$1::jsonb"), table("runs")),
      {moved_history_json(part), std::string(run_id)});
  if (!rows) return rows.error();
  if (PgFields((*rows)[0]).count() == 0) return Error{ErrorKind::kConflict, "the run exists already"};
  return {};
}

Result<bool> PgStore::insert_row(const Run& run) {
  const auto rows = connection_->exec(
      fmt::format("WITH h AS MATERIALIZED (SELECT count(*) AS n, coalesce(max(seq), 0) AS last FROM {0} WHERE run_id "
                  "= $2), added AS ({1} WHERE (SELECT n = $3::bigint AND last = $3::bigint FROM h) ON CONFLICT DO "
                  "NOTHING RETURNING 1), known AS (DELETE FROM {2} WHERE run_id = $2 AND EXISTS (SELECT 1 FROM "
                  "added)) SELECT (SELECT count(*) FROM added), h.n, h.last, EXISTS (SELECT 1 FROM {3} r WHERE "
                  "r.run_id = $2) FROM h",
                  table("run_events"), moved_run_.with("$1::jsonb"), table("pruned"), table("runs")),
      {moved_run_json(run), run.run_id, run.last_seq});
  if (!rows) return rows.error();
  PgFields fields((*rows)[0]);
  if (fields.integer() == 1) return true;
  const std::int64_t entries = fields.integer();
  const std::int64_t last = fields.integer();
  const bool there = fields.boolean();
  if (!there && (entries != run.last_seq || last != run.last_seq)) {
    return incomplete_history(run.last_seq, entries, last);
  }
  return false;
}

Result<void> PgStore::remove_history(std::string_view run_id) {
  const auto removed = connection_->exec(
      fmt::format("DELETE FROM {} WHERE run_id = $1 AND NOT EXISTS (SELECT 1 FROM {} r WHERE r.run_id = $1)",
                  table("run_events"), table("runs")),
      {std::string(run_id)});
  if (!removed) return removed.error();
  return {};
}

Result<std::uint64_t> PgStore::insert_pruned(std::span<const PrunedRun> runs) {
  if (runs.empty()) return std::uint64_t{0};
  JsonRecords records;
  for (const PrunedRun& run : runs) {
    records.begin();
    records.text("i", run.run_id);
    records.time("t", run.pruned_at);
    records.end();
  }
  const auto rows = connection_->exec(
      fmt::format(
          "INSERT INTO {} (run_id, pruned_at) SELECT c.i, c.t FROM jsonb_to_recordset($1::jsonb) AS c (i text, "
          "t timestamptz) WHERE NOT EXISTS (SELECT 1 FROM {} r WHERE r.run_id = c.i::{}) ON CONFLICT DO NOTHING",
          table("pruned"), table("runs"), schema_.column("runs", "run_id").type),
      {std::move(records).take()});
  if (!rows) return rows.error();
  return static_cast<std::uint64_t>(rows->affected_rows());
}

Result<bool> PgStore::insert_reconciliation(const ReconciliationRow& row) {
  const auto finished = row.finished_at ? std::optional(format_rfc3339(*row.finished_at)) : std::nullopt;
  const auto rows = connection_->exec(
      fmt::format("INSERT INTO {} (pass_id, recorder, trigger, started_at, finished_at, report) VALUES ($1, $2, $3, "
                  "$4::timestamptz, $5::timestamptz, $6::jsonb) ON CONFLICT DO NOTHING",
                  table("reconciliations")),
      {row.pass_id, row.recorder, row.trigger, format_rfc3339(row.started_at), finished, row.report});
  if (!rows) return rows.error();
  return rows->affected_rows() == 1;
}

Result<bool> PgStore::insert_dead_letter(const DeadLetter& letter) {
  const auto text = [](const std::optional<Timestamp>& time) {
    return time ? std::optional(format_rfc3339(*time)) : std::nullopt;
  };
  const auto rows = exec_giving_ids(
      fmt::format(
          "WITH there AS MATERIALIZED (SELECT 1 FROM {0} WHERE run_id = $2 AND recorder = $1 AND inserted_at = "
          "$11::timestamptz AND record = decode($5, 'hex')), added AS (INSERT INTO {0} (recorder, run_id, "
          "type, event_id, record, line, sqlstate, reason, tries, received_at, inserted_at) SELECT $1, $2, $3, "
          "$4, decode($5, 'hex'), $6, $7, $8, $9::bigint, $10::timestamptz, $11::timestamptz WHERE NOT EXISTS "
          "(SELECT 1 FROM there) AND NOT EXISTS (SELECT 1 FROM {1} w WHERE w.id = $1) RETURNING 1) SELECT "
          "(SELECT count(*) FROM added), EXISTS (SELECT 1 FROM there)",
          table("dead_letters"), table("recorders")),
      {letter.recorder, letter.run_id, letter.type, letter.event_id, to_hex(letter.record), letter.line,
       letter.sqlstate, letter.reason, letter.tries, text(letter.received_at), text(letter.inserted_at)});
  if (!rows) return rows.error();
  PgFields fields((*rows)[0]);
  if (fields.integer() == 1) return true;
  if (fields.boolean()) return false;
  return recorder_known(letter.recorder);
}

Result<bool> PgStore::insert_recorder(const RecorderRow& row) {
  const Ledger& ledger = row.checkpoint.ledger;
  const PgConnection::Deadline deadline(*connection_);
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  const auto letters =
      connection_->exec(fmt::format("SELECT count(*), EXISTS (SELECT 1 FROM {} w WHERE w.id = $1) FROM {} WHERE "
                                    "recorder = $1",
                                    table("recorders"), table("dead_letters")),
                        {row.self.id});
  if (!letters) return letters.error();
  PgFields fields((*letters)[0]);
  const std::uint64_t here = fields.count();
  if (fields.boolean()) return false;
  if (here != ledger.dead_letters) return letters_missing(ledger.dead_letters, here);
  const auto time = [](const std::optional<Timestamp>& at) {
    return at ? std::optional(format_rfc3339(*at)) : std::nullopt;
  };
  const auto added = connection_->exec(
      fmt::format("INSERT INTO {} (id, host, version, incarnation, first_seen, last_seen, applied, duplicate, "
                  "dead_letters, dead_letters_removed, conflicts) VALUES ($1, $2, $3, $4, coalesce($5::timestamptz, "
                  "now()), coalesce($6::timestamptz, now()), $7::bigint, $8::bigint, $9::bigint, $10::bigint, "
                  "$11::bigint) ON CONFLICT DO NOTHING",
                  table("recorders")),
      {row.self.id, row.self.host, row.self.version, row.self.incarnation, time(row.first_seen), time(row.last_seen),
       ledger.applied, ledger.duplicate, ledger.dead_letters, ledger.dead_letters_removed, ledger.conflicts});
  if (!added) return added.error();
  if (added->affected_rows() != 1) return false;
  for (const auto& [incarnation, applied] : row.checkpoint.applied) {
    const auto placed =
        connection_->exec(fmt::format("INSERT INTO {} (recorder, incarnation, applied) VALUES ($1, $2, $3::bigint)",
                                      table("positions")),
                          {row.self.id, incarnation, applied});
    if (!placed) return placed.error();
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

}  // namespace run_recorder
