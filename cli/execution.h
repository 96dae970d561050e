// Runs a command and records that as a run: what `run-recorder exec` does. The command comes first: it starts at
// once, whatever the daemon does, and everything passes through. For a single-threaded process.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/event_socket.h"
#include "cli/run_log.h"

namespace run_recorder {

struct ExecOptions {
  std::vector<std::string> command;  // not empty
  std::optional<std::string> council, run_id, parent_attempt_run_id, queue, job_id;
  std::optional<std::string> input;  // JSON
  std::optional<std::int64_t> attempt, oban_job_id;
  std::uint64_t retries = 0;
  std::chrono::milliseconds retry_delay{1'000};
  std::optional<std::chrono::milliseconds> timeout;  // of each attempt
  std::chrono::milliseconds kill_after{10'000};      // after the timeout's SIGTERM
  std::string log_folder;                            // absolute; empty: there is no log
  std::uint64_t log_bytes = kDefaultLogBytes;
  std::uint64_t tail = 20;  // lines of standard error; 0: it is not captured
  bool record_args = false;
  std::vector<std::string> warnings;  // said once the command runs
};

// As timeout(1) has it.
inline constexpr int kExitTimedOut = 124;

// Returns the command's exit status, kExitTimedOut where its time was over, or does not return where a signal ended
// it: then the same signal ends this process. Precondition: the daemon takes these values.
// unsent_folder: where events are kept that cannot be sent; empty: nowhere.
int execute(const ExecOptions& options, const EventSocket& socket, const std::string& unsent_folder);

}  // namespace run_recorder
