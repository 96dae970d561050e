// The states of a run (contract section 3). Pure.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>

namespace run_recorder {

enum class Status {
  kQueued,     // known, not begun; left by run_started or any terminal event
  kRunning,    // begun; left by a terminal event, or by reconciliation (to stuck)
  kCompleted,  // for good
  kFailed,     // for good
  kCancelled,  // for good
  kStuck,      // a finding: the job or worker was gone. Left by any later event of the run, or by undoing the pass
};

std::string_view to_string(Status status);
std::optional<Status> parse_status(std::string_view text);

// queued, running.
std::span<const Status> active_statuses();
// completed, failed, cancelled, stuck.
std::span<const Status> terminal_statuses();
// completed, failed, cancelled: never change again.
bool is_finished(Status status);
std::span<const Status> finished_statuses();

}  // namespace run_recorder
