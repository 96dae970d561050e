// The events that `exec` sends for one attempt. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cli/child.h"

namespace run_recorder {

struct AttemptStart {
  std::string run_id;
  std::string event_id;
  std::string council;
  std::string input;  // JSON
  std::optional<std::int64_t> attempt, oban_job_id;
  std::optional<std::string> parent_attempt_run_id, queue, job_id;
  std::optional<std::string> unit, user, cwd;
  std::string command_text;
  std::optional<std::string> log;  // the file of what it writes
  std::optional<pid_t> worker_pid;
  Timestamp at{};
};

struct AttemptEnd {
  std::string run_id;
  std::string event_id;
  Timestamp at{};
  std::chrono::milliseconds duration{0};
  Ending ending;
  int asked_to_stop_by = 0;  // the signal with which exec itself was asked to stop, or 0
  // Its time, where that was over before it ended, and before exec was asked to stop.
  std::optional<std::chrono::milliseconds> timed_out_after;
  int output_error = 0;  // the errno with which some of its standard output was lost, or 0
  std::string command;   // for the message where it could not be run
  std::vector<std::string> stderr_tail;
};

std::string started_line(const AttemptStart& start);
// A line as it is kept for another time: run_started with the host, which need not be that of the daemon to which a
// person, or a home folder that hosts share, brings it. No host: the line as it is.
std::string kept_line(const std::string& line, const std::optional<std::string>& host);
// run_completed, or run_failed with one error of kind "exit", "signal", "output", "timeout" or "cancelled".
std::string ended_line(const AttemptEnd& end);

// It failed because exec was asked to stop. A hangup is also how daemons are told to reload: only dying of it counts.
bool was_cancelled(const AttemptEnd& end);
// It did all that it was to do, and in time.
bool succeeded(const AttemptEnd& end);
// It failed in a way in which it may not fail again.
bool worth_retrying(const AttemptEnd& end);
// "exited with status 3", "was killed by SIGKILL (core dumped)", "could not be run: No such file or directory",
// "did not end within 30m".
std::string ending_in_words(const AttemptEnd& end);

// {"command":…,"args":[…]}, or {"command":…} with only the command's name.
std::string command_input(const std::vector<std::string>& command, bool with_arguments);
// The command as a shell would take it, or only its name as it was given; cut to what a row holds.
std::string command_text(const std::vector<std::string>& command, bool with_arguments);
// The file name in a command's path, as a council's name: valid UTF-8, 1 to 255 bytes.
std::string council_of(const std::string& command);

}  // namespace run_recorder
