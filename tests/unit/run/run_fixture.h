// Events and rows for the tests of the state table, as short as they can be named.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "run/run.h"

namespace run_recorder::testing {

// GoogleTest's own Test::Run hides the other name inside of a test.
using Row = run_recorder::Run;

inline constexpr RecordedBy kRecorder{.recorder = "recorder-b", .host = "host-b"};

inline Timestamp time_of(std::string_view text) {
  return parse_rfc3339(text).value();
}
inline const Timestamp kReceived = time_of("2026-03-01T12:00:00Z");
inline const Timestamp kHappened = time_of("2026-03-01T11:59:58.25Z");
inline const Timestamp kBegan = time_of("2026-03-01T09:00:00Z");
inline const Timestamp kEnded = time_of("2026-03-01T10:00:00Z");

inline Event event_of(EventKind kind, std::string type) {
  Event event;
  event.kind = kind;
  event.type = std::move(type);
  event.run_id = "r1";
  event.received_at = kReceived;
  event.sender_process = "m:b:n:20:2";
  event.connection = "i-7";
  return event;
}
inline Event queued() {
  return event_of(EventKind::kQueued, "run_queued");
}
inline Event started() {
  return event_of(EventKind::kStarted, "run_started");
}
inline Event heartbeat() {
  return event_of(EventKind::kHeartbeat, "run_heartbeat");
}
inline Event lost(std::optional<std::string> message = {}) {
  Event event = event_of(EventKind::kLost, "run_lost");
  event.message = std::move(message);
  return event;
}
inline Event other() {
  return event_of(EventKind::kOther, "member_started");
}
inline Event completed(std::optional<JsonText> result = {}) {
  Event event = event_of(EventKind::kCompleted, "run_completed");
  event.result = std::move(result);
  return event;
}
inline Event failed(std::optional<JsonText> errors = {}) {
  Event event = event_of(EventKind::kFailed, "run_failed");
  event.errors = std::move(errors);
  return event;
}
inline Event cancelled(JsonText errors = R"(["cancelled"])") {
  Event event = failed(std::move(errors));
  event.cancelled = true;
  return event;
}

// A row as an earlier recorder left it, with everything given that belongs to its status.
inline Row row_of(Status status) {
  Row run;
  run.run_id = "r1";
  run.council = "demo";
  run.council_given = true;
  run.status = status;
  run.recorder = "recorder-a";
  run.sender_process = "m:b:n:10:1";
  run.connection = "i-1";
  run.last_seq = 4;
  if (status != Status::kQueued) run.started_at = kBegan;
  if (status != Status::kQueued) run.host = "host-a";
  switch (status) {
    case Status::kQueued:
    case Status::kRunning:
      break;
    case Status::kCompleted:
      run.result = R"({"n":1})";
      run.finalized_at = kEnded;
      break;
    case Status::kFailed:
      run.error = R"({"errors":["boom"]})";
      run.finalized_at = kEnded;
      break;
    case Status::kCancelled:
      run.error = R"({"errors":["cancelled"]})";
      run.finalized_at = kEnded;
      break;
    case Status::kStuck:
      run.error = R"({"kind":"stuck","reason":"process_gone"})";
      run.finalized_at = kEnded;
      run.oban_job_state_at_finalize = "executing";
      run.stuck_pass = "pass-1";
      run.worker_process = "m:b:n:11:1";
      break;
  }
  return run;
}

inline std::vector<std::string> types_of(const Transition& transition) {
  std::vector<std::string> types;
  for (const HistoryEntry& entry : transition.history) types.push_back(entry.type);
  return types;
}

}  // namespace run_recorder::testing
