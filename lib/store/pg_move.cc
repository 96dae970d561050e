// Rows from another database into PostgreSQL.
#include <fmt/format.h>

#include <array>

#include "store/pg_store.h"

namespace run_recorder {
namespace {

constexpr std::array<std::string_view, 23> kRunColumns{
    "run_id",        "council",       "status",         "attempt",        "parent_attempt_run_id",
    "oban_job_id",   "input",         "result",         "error",          "oban_job_state_at_finalize",
    "started_at",    "finalized_at",  "inserted_at",    "updated_at",     "council_given",
    "attempt_given", "recorder",      "worker_process", "sender_process", "connection",
    "last_seq",      "last_event_at", "stuck_pass"};
constexpr std::array<std::string_view, 13> kEventColumns{
    "run_id",   "seq",      "type",     "payload", "event_id", "at",         "received_at",
    "recorder", "peer_uid", "peer_pid", "effect",  "pass_id",  "inserted_at"};

std::string run_record(const Run& run) {
  JsonRecords row;
  row.begin();
  row.text("run_id", run.run_id);
  row.text("council", run.council);
  row.text("status", to_string(run.status));
  row.number("attempt", std::int64_t{run.attempt});
  row.text("parent_attempt_run_id", run.parent_attempt_run_id);
  row.number("oban_job_id", run.oban_job_id);
  row.json("input", run.input.text());
  row.json("result", run.result.text());
  row.json("error", run.error.text());
  row.text("oban_job_state_at_finalize", run.oban_job_state_at_finalize);
  row.time("started_at", run.started_at);
  row.time("finalized_at", run.finalized_at);
  row.time("inserted_at", run.inserted_at);
  row.time("updated_at", run.updated_at);
  row.boolean("council_given", run.council_given);
  row.boolean("attempt_given", run.attempt_given);
  row.text("recorder", run.recorder);
  row.text("worker_process", run.worker_process);
  row.text("sender_process", run.sender_process);
  row.text("connection", run.connection);
  row.number("last_seq", run.last_seq);
  row.time("last_event_at", run.last_event_at);
  row.text("stuck_pass", run.stuck_pass);
  row.end();
  return std::move(row).take();
}

std::string event_records(const Run& run, std::span<const StoredEvent> history) {
  JsonRecords rows;
  for (const StoredEvent& event : history) {
    const HistoryEntry& entry = event.entry;
    rows.begin();
    rows.text("run_id", run.run_id);
    rows.number("seq", entry.seq);
    rows.text("type", entry.type);
    rows.json("payload", entry.payload);
    rows.text("event_id", entry.event_id);
    rows.time("at", entry.at);
    rows.time("received_at", entry.received_at);
    rows.text("recorder", event.recorder);
    if (entry.peer_uid) rows.number("peer_uid", std::int64_t{*entry.peer_uid});
    if (entry.peer_pid) rows.number("peer_pid", std::int64_t{*entry.peer_pid});
    rows.text("effect", to_string(entry.effect));
    if (!entry.pass_id.empty()) rows.text("pass_id", entry.pass_id);
    rows.time("inserted_at", event.inserted_at);
    rows.end();
  }
  return std::move(rows).take();
}

template <std::size_t Size>
std::string insert_sql(const PgSchema& schema, std::string_view table,
                       const std::array<std::string_view, Size>& columns, std::string_view parameter) {
  std::string names;
  std::string values;
  std::string record;
  for (const std::string_view column : columns) {
    const std::string_view separator = names.empty() ? "" : ", ";
    names += fmt::format("{}{}", separator, column);
    values += fmt::format("{}c.{}", separator, column);
    record += fmt::format("{}{} {}", separator, column, schema.column(table, column).type);
  }
  return fmt::format("INSERT INTO {} ({}{}) SELECT {}{} FROM jsonb_to_recordset({}::jsonb) AS c ({})",
                     schema.table(table), PgBatch::id_column(schema, table), names, PgBatch::new_id(schema, table),
                     values, parameter, record);
}

}  // namespace

Result<bool> PgStore::insert_whole(const Run& run, std::span<const StoredEvent> history) {
  const auto rows = connection_->exec(
      fmt::format(
          "WITH known AS (DELETE FROM {} WHERE run_id = $3), added AS ({} ON CONFLICT DO NOTHING RETURNING 1), "
          "history AS ({} WHERE EXISTS (SELECT 1 FROM added)) SELECT count(*) FROM added",
          table("pruned"), insert_sql(schema_, "runs", kRunColumns, "$1"),
          insert_sql(schema_, "run_events", kEventColumns, "$2")),
      {run_record(run), event_records(run, history), run.run_id});
  if (!rows) return rows.error();
  return PgFields((*rows)[0]).integer() == 1;
}

}  // namespace run_recorder
