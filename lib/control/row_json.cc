#include "control/row_json.h"

#include "base/hex.h"
#include "base/json_writer.h"

namespace run_recorder {

JsonText run_json(const Run& run, bool with_payloads) {
  JsonWriter out;
  out.text("run_id", run.run_id);
  out.text("council", run.council);
  out.text("status", to_string(run.status));
  out.number("attempt", run.attempt);
  out.maybe_text("parent_attempt_run_id", run.parent_attempt_run_id);
  out.number("oban_job_id", run.oban_job_id);
  out.maybe_text("oban_job_state_at_finalize", run.oban_job_state_at_finalize);
  if (with_payloads) {
    out.json("input", run.input.text());
    out.json("result", run.result.text());
  }
  out.json("error", run.error.text());
  out.time("started_at", run.started_at);
  out.time("finalized_at", run.finalized_at);
  out.time("inserted_at", run.inserted_at);
  out.time("updated_at", run.updated_at);
  out.flag("council_given", run.council_given);
  out.flag("attempt_given", run.attempt_given);
  out.text_or_null("recorder", run.recorder);
  out.text_or_null("worker_process", run.worker_process);
  out.text_or_null("sender_process", run.sender_process);
  out.text_or_null("connection", run.connection);
  out.number("last_seq", run.last_seq);
  out.time("last_event_at", run.last_event_at);
  out.text_or_null("stuck_pass", run.stuck_pass);
  out.maybe_text("queue", run.queue);
  out.maybe_text("job_id", run.job_id);
  out.number("expires_in", run.expires_in);
  out.json("usage", run.usage);
  out.json("progress", run.progress);
  return std::move(out).object();
}

JsonText event_json(const StoredEvent& event) {
  const HistoryEntry& entry = event.entry;
  JsonWriter out;
  out.number("id", event.id);
  out.text("run_id", entry.run_id);
  out.number("seq", entry.seq);
  out.text("type", entry.type);
  out.raw("payload", entry.payload.empty() ? "{}" : entry.payload);
  out.time("inserted_at", event.inserted_at);
  out.maybe_text("event_id", entry.event_id);
  out.time("at", entry.at);
  if (entry.received_at == Timestamp{}) {
    out.null("received_at");
  } else {
    out.text("received_at", format_rfc3339(entry.received_at));
  }
  out.text_or_null("recorder", event.recorder);
  out.number("peer_uid", entry.peer_uid);
  out.number("peer_pid", entry.peer_pid);
  out.text("effect", to_string(entry.effect));
  out.text_or_null("pass_id", entry.pass_id);
  return std::move(out).object();
}

namespace {

JsonWriter letter_object(const DeadLetter& letter) {
  JsonWriter out;
  out.number("id", letter.id);
  out.text("recorder", letter.recorder);
  out.text_or_null("run_id", letter.run_id);
  out.text_or_null("type", letter.type);
  out.maybe_text("event_id", letter.event_id);
  out.text_or_null("sqlstate", letter.sqlstate);
  out.text("reason", letter.reason);
  out.text_or_null("line", letter.line);
  out.number("tries", letter.tries);
  out.time("received_at", letter.received_at);
  out.time("inserted_at", letter.inserted_at);
  return out;
}

}  // namespace

JsonText dead_letter_json(const DeadLetter& letter) {
  return letter_object(letter).object();
}

JsonText moved_letter_json(const DeadLetter& letter) {
  JsonWriter out = letter_object(letter);
  out.text("record", to_hex(letter.record));
  return std::move(out).object();
}

JsonText reconciliation_json(const ReconciliationRow& row) {
  JsonWriter out;
  out.text("pass_id", row.pass_id);
  out.text("recorder", row.recorder);
  out.text("trigger", row.trigger);
  out.text("started_at", format_rfc3339(row.started_at));
  out.time("finished_at", row.finished_at);
  out.raw("report", row.report);
  return std::move(out).object();
}

JsonList::JsonList(std::string_view name) : text_("{") {
  append_json_string(text_, name);
  text_ += ":[";
}

void JsonList::add(const JsonText& item) {
  if (!empty_) text_ += ',';
  empty_ = false;
  text_ += item;
}

JsonText JsonList::close(std::string_view next) {
  text_ += "],\"next\":";
  text_ += next.empty() ? "null" : json_string(next);
  text_ += '}';
  return std::move(text_);
}

}  // namespace run_recorder
