// One lifecycle event, validated (contract section 4). Made by protocol, read by run. A value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_text.h"
#include "base/time.h"

namespace run_recorder {

enum class EventKind { kQueued, kStarted, kCompleted, kFailed, kHeartbeat, kLost, kOther };

// The four types of a run's life, which no filter holds back and for which the spool keeps its last tenth. A finding
// or a heartbeat is none of them.
constexpr bool is_lifecycle(EventKind kind) {
  return kind == EventKind::kQueued || kind == EventKind::kStarted || kind == EventKind::kCompleted ||
         kind == EventKind::kFailed;
}

struct Event {
  EventKind kind = EventKind::kOther;
  std::string type;
  std::string run_id;
  std::optional<std::string> id;  // the sender's own id of this event
  std::optional<Timestamp> at;    // when it happened, by the sender
  // run_queued, run_started
  std::optional<std::string> council;
  std::optional<JsonText> input;  // as sent; wrapped into {"value": …} only in the row
  std::optional<std::int32_t> attempt;
  std::optional<std::string> parent_attempt_run_id;
  std::optional<std::int64_t> oban_job_id;
  std::optional<std::string> queue;   // the configured queue's name
  std::optional<std::string> job_id;  // the job's id there, as text
  std::optional<std::string> host;    // where the run runs, and as what
  std::optional<std::string> unit;
  std::optional<std::string> user;
  std::optional<std::string> cwd;
  std::optional<std::string> command;
  // run_started, run_heartbeat
  std::optional<std::int32_t> expires_in;  // seconds
  // run_completed, run_failed
  std::optional<std::string> job_state;  // what the sender knows of the job's state
  std::optional<JsonText> result;        // as sent
  std::optional<JsonText> errors;        // run_failed: the array as sent
  bool cancelled = false;                // run_failed: an element of errors is "cancelled" or has kind "cancelled"
  // run_lost
  std::optional<std::string> message;
  // any
  std::optional<std::int32_t> worker_pid;  // as the sender sees it
  std::optional<JsonText> usage;           // an object of finite numbers, as sent
  std::optional<JsonText> progress;        // an object, as sent
  JsonText payload = "{}";                 // the history's payload, an object

  // What the daemon knows of the event, not the sender.
  Timestamp received_at{};
  std::optional<std::uint32_t> peer_uid;
  std::optional<std::int32_t> peer_pid;
  // Identity texts of process/identity.h; empty where nothing is known.
  std::string worker_process;
  std::string sender_process;
  std::string connection;  // "<incarnation>-<number>": the connection it came over
};

}  // namespace run_recorder
