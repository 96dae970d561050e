#include "run/run.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "run/finding.h"
#include "run/names.h"
#include "run/usage.h"

namespace run_recorder {
namespace {

Error invalid(std::string message) {
  return Error{ErrorKind::kInvalid, std::move(message)};
}

bool is_terminal_event(EventKind kind) {
  return kind == EventKind::kCompleted || kind == EventKind::kFailed;
}

// The events whose fields a row keeps.
bool describes_run(EventKind kind) {
  return kind == EventKind::kQueued || kind == EventKind::kStarted;
}

// The status an event asks for, whatever the row says; nothing where it asks for none (run_queued on a row).
Status status_by(const Event& event) {
  switch (event.kind) {
    case EventKind::kQueued:
      return Status::kQueued;
    case EventKind::kStarted:
      return Status::kRunning;
    case EventKind::kCompleted:
      return Status::kCompleted;
    case EventKind::kFailed:
      return event.cancelled ? Status::kCancelled : Status::kFailed;
    case EventKind::kLost:
      return Status::kStuck;
    case EventKind::kHeartbeat:
    case EventKind::kOther:
      return Status::kRunning;
  }
  return Status::kRunning;
}

// The table of contract section 3: the status after event, where row is the status before (empty: no row).
Status next_status(std::optional<Status> row, const Event& event) {
  if (!row) return status_by(event);
  switch (*row) {
    case Status::kQueued:
    case Status::kStuck:
      return event.kind == EventKind::kQueued ? *row : status_by(event);
    case Status::kRunning:
      return is_terminal_event(event.kind) || event.kind == EventKind::kLost ? status_by(event) : Status::kRunning;
    case Status::kCompleted:
    case Status::kFailed:
    case Status::kCancelled:
      return *row;
  }
  return *row;
}

// The finding of a sender, in the form of one of the daemon's own.
JsonText reported_lost(const Event& event) {
  constexpr std::string_view kMessage = "the sender reported that the work ended without an outcome";
  return stuck_error({.reason = "reported_lost", .message = event.message ? *event.message : kMessage});
}

std::optional<JsonText> error_of(const Event& event) {
  if (event.kind != EventKind::kFailed || !event.errors) return std::nullopt;
  return "{\"errors\":" + *event.errors + "}";
}

bool same_json(const std::optional<JsonText>& said, const JsonColumn& row, bool same_in_database) {
  if (!said || !row) return !said && !row;
  return row.loaded() ? json_equal(*said, *row) : same_in_database;
}

// What contradicts a row that is finished, or an attempt that was stated before. Empty: nothing.
std::string conflict_with(const Run& row, const Event& event, SameOutcome same) {
  if (is_finished(row.status)) {
    if (event.kind == EventKind::kStarted) {
      return fmt::format("{} for a run that is already {}", event.type, to_string(row.status));
    }
    if (is_terminal_event(event.kind)) {
      const Status status = status_by(event);
      if (status != row.status)
        return fmt::format("{} for a run that is already {}", event.type, to_string(row.status));
      const Outcome said = outcome_of(event);
      if (!same_json(said.result, row.result, same.result)) return "result differs from the recorded one";
      if (event.kind == EventKind::kFailed && !same_json(said.error, row.error, same.error)) {
        return "errors differ from the recorded ones";
      }
    }
  }
  if (event.attempt && row.attempt_given && *event.attempt != row.attempt) {
    return fmt::format("attempt {} for a run recorded as attempt {}", *event.attempt, row.attempt);
  }
  return {};
}

bool council_known(const Run& row) {
  return row.council_given || row.council != "unknown";
}

// A queue and a job's id there belong together: where an event names another queue or another job than the row has,
// nothing of either is taken, or they would name a job that no event named.
bool agrees_on_job(const Run& row, const Event& event) {
  if (row.queue && event.queue && *row.queue != *event.queue) return false;
  if (row.job_id && event.job_id) return *row.job_id == *event.job_id;
  if (row.oban_job_id && event.oban_job_id) return *row.oban_job_id == *event.oban_job_id;
  // One by its text alone, the other by its number alone.
  return !(row.job_id || row.oban_job_id) || !(event.job_id || event.oban_job_id);
}

// Fields of run_queued and run_started that no event gave yet, taken out of the event.
RunAttributes missing_fields(const Run& row, Event& event) {
  RunAttributes attributes;
  if (!describes_run(event.kind)) return attributes;
  if (!council_known(row)) attributes.council = std::move(event.council);
  if (!row.attempt_given && event.attempt) attributes.attempt = *event.attempt;
  if (!row.parent_attempt_run_id) attributes.parent_attempt_run_id = std::move(event.parent_attempt_run_id);
  if (!row.input) attributes.input = std::move(event.input);
  if (event.kind == EventKind::kStarted && !row.started_at) {
    attributes.started_at = event.at ? *event.at : event.received_at;
  }
  return attributes;
}

// The queue and the job there, as far as no event named them yet.
bool fill_job(Run& row, Event& event, RunAttributes& attributes) {
  if (!describes_run(event.kind)) return false;
  if (!agrees_on_job(row, event)) return false;
  if (!row.oban_job_id && !row.job_id) attributes.oban_job_id = event.oban_job_id;
  const bool names_queue = !row.queue && event.queue;
  if (names_queue) row.queue = std::move(event.queue);
  const bool names_job = !row.job_id && event.job_id;
  if (names_job) row.job_id = std::move(event.job_id);
  return names_queue || names_job;
}

// Where the run runs, and as what, as far as no event said it yet.
bool fill_place(Run& row, Event& event) {
  if (!describes_run(event.kind)) return false;
  bool filled = false;
  const auto fill = [&filled](std::optional<std::string>& column, std::optional<std::string>& said) {
    if (column || !said) return;
    column = std::move(said);
    filled = true;
  };
  fill(row.host, event.host);
  fill(row.unit, event.unit);
  fill(row.os_user, event.user);
  fill(row.cwd, event.cwd);
  fill(row.command, event.command);
  return filled;
}

// A run whose host no event named is on that of the recorder: senders reach no other. Whoever queues a run, or tells
// how it ended, need not be where it runs.
bool fill_own_host(Run& row, const Event& event, bool begins_to_run, std::string_view host) {
  if (row.host || host.empty() || !(begins_to_run || event.kind == EventKind::kStarted)) return false;
  row.host = host;
  return true;
}

// What any event may say of how the run is doing.
bool note_reports(Run& row, Event& event, bool finished) {
  bool changed = false;
  if (event.expires_in && !finished && row.expires_in != event.expires_in) {
    row.expires_in = event.expires_in;
    changed = true;
  }
  if (event.usage) changed = add_usage(row.usage, *event.usage) || changed;
  if (event.progress && row.progress != event.progress) {
    row.progress = std::move(event.progress);
    changed = true;
  }
  return changed;
}

bool any_field(const RunAttributes& attributes) {
  return attributes.council || attributes.attempt || attributes.parent_attempt_run_id || attributes.oban_job_id ||
         attributes.input || attributes.started_at;
}

// Takes the event's texts.
HistoryEntry entry_of(Event& event, std::int64_t seq, Effect effect) {
  HistoryEntry entry;
  entry.run_id = std::move(event.run_id);
  entry.seq = seq;
  entry.type = std::move(event.type);
  entry.payload = std::move(event.payload);
  entry.event_id = std::move(event.id);
  entry.at = event.at;
  entry.received_at = event.received_at;
  entry.peer_uid = event.peer_uid;
  entry.peer_pid = event.peer_pid;
  entry.effect = effect;
  return entry;
}

HistoryEntry revived_entry(const Run& row, const Event& event, Status after, std::int64_t seq) {
  HistoryEntry entry;
  entry.run_id = event.run_id;
  entry.seq = seq;
  entry.type = kRevivedEvent;
  const bool by_pass = !row.stuck_pass.empty();
  entry.payload = revived_payload(after, event.type, by_pass ? std::optional(row.stuck_pass) : std::nullopt);
  entry.received_at = event.received_at;
  entry.effect = Effect::kRecorded;
  return entry;
}

// Of a row that is there already only the change is judged: another program may have written what no event could
// hold.
Result<void> validate(const Run& row, const RunAttributes& change) {
  if (change.run_id ? !is_name(*change.run_id) : row.run_id.empty()) {
    return invalid("run_id: must be 1 to 255 bytes");
  }
  if (change.council && !is_name(*change.council)) return invalid("council: must be 1 to 255 bytes");
  if (change.parent_attempt_run_id && !is_name(*change.parent_attempt_run_id)) {
    return invalid("parent_attempt_run_id: must be 1 to 255 bytes");
  }
  if (change.oban_job_id && *change.oban_job_id < 1) return invalid("oban_job_id: must be between 1 and 2^63-1");
  return {};
}

}  // namespace

std::string_view to_string(Effect effect) {
  switch (effect) {
    case Effect::kApplied:
      return "applied";
    case Effect::kRecorded:
      return "recorded";
    case Effect::kConflict:
      return "conflict";
    case Effect::kRevived:
      return "revived";
  }
  return "";
}

JsonText as_map(JsonText value) {
  if (json_type(value) == JsonType::kObject) return value;
  return "{\"value\":" + value + "}";
}

Result<Run> changeset(Run row, RunAttributes attributes) {
  if (attributes.attempt &&
      (*attributes.attempt < 1 || *attributes.attempt > std::numeric_limits<std::int32_t>::max())) {
    return invalid("attempt: must be between 1 and 2147483647");
  }
  if (attributes.status && is_finished(row.status) && *attributes.status != row.status) {
    return invalid(fmt::format("status: a run that is {} stays {}", to_string(row.status), to_string(row.status)));
  }
  if (attributes.error && json_type(*attributes.error) != JsonType::kObject) {
    return invalid("error: must be an object");
  }
  if (const auto valid = validate(row, attributes); !valid) return valid.error();
  Run after = std::move(row);
  if (attributes.run_id) after.run_id = std::move(*attributes.run_id);
  if (attributes.council) {
    after.council = std::move(*attributes.council);
    after.council_given = true;
  }
  if (attributes.status) after.status = *attributes.status;
  if (attributes.attempt) {
    after.attempt = static_cast<std::int32_t>(*attributes.attempt);
    after.attempt_given = true;
  }
  if (attributes.parent_attempt_run_id) after.parent_attempt_run_id = std::move(attributes.parent_attempt_run_id);
  if (attributes.oban_job_id) after.oban_job_id = attributes.oban_job_id;
  if (attributes.oban_job_state_at_finalize) {
    after.oban_job_state_at_finalize = std::move(attributes.oban_job_state_at_finalize);
  }
  if (attributes.input) after.input = as_map(std::move(*attributes.input));
  if (attributes.result) after.result = as_map(std::move(*attributes.result));
  if (attributes.error) after.error = std::move(attributes.error);
  if (attributes.started_at) after.started_at = attributes.started_at;
  if (attributes.finalized_at) after.finalized_at = attributes.finalized_at;
  return after;
}

Outcome outcome_of(const Event& event) {
  Outcome outcome;
  if (event.result) outcome.result = as_map(*event.result);
  outcome.error = error_of(event);
  return outcome;
}

// What a stuck row has for an error goes when it leaves that status, so that nothing is compared with it.
bool needs_comparison(const Run& row, const Event& event) {
  if (!is_terminal_event(event.kind)) return false;
  return !row.result.loaded() || (!row.error.loaded() && row.status != Status::kStuck);
}

Transition apply(const Run* row, Event event, RecordedBy by, SameOutcome same) {
  Run before = row ? *row : Run{};
  if (!row) before.run_id = event.run_id;
  if (before.council.empty()) before.council = "unknown";
  const Status status = next_status(row ? std::optional(row->status) : std::nullopt, event);
  const bool status_changed = !row || status != row->status;
  const bool revived = row && row->status == Status::kStuck && status != Status::kStuck;

  Transition transition;
  transition.inserted = !row;
  if (row) transition.conflict = conflict_with(*row, event, same);
  RunAttributes attributes = missing_fields(before, event);
  const bool names_job = fill_job(before, event, attributes);
  const bool says_where = fill_place(before, event);
  const bool runs_here = fill_own_host(before, event, status_changed && status == Status::kRunning, by.host);
  transition.fields_changed = names_job || says_where || runs_here || any_field(attributes);
  transition.reports_changed = note_reports(before, event, is_finished(status));
  if (revived) {
    // The finding was wrong; so was the evidence that named this worker.
    before.error.reset();
    before.finalized_at.reset();
    before.oban_job_state_at_finalize.reset();
    before.worker_process.clear();
  }
  attributes.status = status;
  const bool found_lost = status_changed && status == Status::kStuck;
  if (status_changed && is_finished(status)) {
    attributes.result = std::move(event.result);
    attributes.error = error_of(event);
    attributes.oban_job_state_at_finalize = std::move(event.job_state);
    transition.finalized = true;
  }
  if (found_lost) {
    attributes.error = reported_lost(event);
    before.stuck_pass.clear();
  }
  if (transition.finalized || found_lost) attributes.finalized_at = event.at ? *event.at : event.received_at;
  transition.outcome_changed = revived || transition.finalized || found_lost;
  // Events were validated when they were decoded, so the change is valid by construction.
  transition.after = changeset(std::move(before), std::move(attributes)).value();

  Run& after = transition.after;
  after.recorder = std::string(by.recorder);
  if (event.worker_pid) after.worker_process = std::move(event.worker_process);
  after.sender_process = std::move(event.sender_process);
  after.connection = std::move(event.connection);
  // A heartbeat is kept where it did something that a resend of it must not do again.
  if (event.kind == EventKind::kHeartbeat && !status_changed && !event.usage) return transition;
  Effect effect = Effect::kRecorded;
  if (status_changed || transition.fields_changed) effect = Effect::kApplied;
  if (!transition.conflict.empty()) effect = Effect::kConflict;
  if (revived) effect = Effect::kRevived;
  const std::int64_t seq = after.last_seq + 1;
  after.last_seq += revived ? 2 : 1;
  transition.history.reserve(2);
  if (revived) transition.history.push_back(revived_entry(*row, event, status, seq + 1));
  transition.history.insert(transition.history.begin(), entry_of(event, seq, effect));
  return transition;
}

}  // namespace run_recorder
