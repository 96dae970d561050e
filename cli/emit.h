// `run-recorder emit`: one event from flags, or events line by line from standard input, until the daemon has
// acknowledged them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace run_recorder {

struct EmitOptions {
  // One event. JSON fields are checked to be JSON, the rest is for the daemon to judge.
  std::optional<std::string> type, run_id, id, at, council, parent_attempt_run_id, queue, job_id, job_state, message;
  std::optional<std::string> input, result, errors, usage, payload;  // JSON
  std::optional<std::string> progress;                               // JSON, or "3/10"
  std::optional<std::string> expires_in;                             // seconds, or a duration of whole seconds
  std::optional<std::int64_t> attempt, oban_job_id;
  // Both ways.
  std::optional<std::int64_t> worker_pid;
  bool no_worker_pid = false;
  std::string vouched_run_id;              // the run of the `exec` around this command; empty: there is none
  std::vector<std::string> warnings;       // said while the events are under way
  std::chrono::milliseconds wait{10'000};  // how long to go on without getting on

  // Any field of one event was given: it is not about standard input then.
  bool one_event() const {
    return type || run_id || id || at || council || parent_attempt_run_id || input || result || errors || payload ||
           attempt || oban_job_id || queue || job_id || job_state || message || usage || progress || expires_in;
  }
};

// Returns the exit status; throws StartError for a usage mistake.
int run_emit(const EmitOptions& options, const std::string& socket_path);

}  // namespace run_recorder
