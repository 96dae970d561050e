// The command that `exec` runs, as a child process. For a single-threaded process; one object per command.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "cli/signal_relay.h"

namespace run_recorder {

// How the command ended.
struct Ending {
  int exit_status = 0;  // where it exited; 127 and 126 where it could not be run
  int signal = 0;       // where a signal ended it, else 0
  bool core_dumped = false;
  int start_error = 0;  // errno of exec where it could not be run, else 0
  bool succeeded() const { return signal == 0 && exit_status == 0; }
};

class Child {
 public:
  // Forks, and executes command (looked for in PATH) with these variables added to the environment. With
  // capture_stderr its standard error is a pipe. The error is about fork and pipes only; a command that cannot be run
  // is an Ending.
  static Result<Child> start(const std::vector<std::string>& command,
                             const std::vector<std::pair<std::string, std::string>>& environment, bool capture_stderr,
                             const SignalRelay& signals);

  pid_t pid() const { return pid_; }
  // The reading end of its standard error, non-blocking; -1 where that is not captured.
  UniqueFd& stderr_pipe() { return stderr_pipe_; }

  void send(int signal) const;

  struct Change {
    std::optional<Ending> ended;
    int stopped_by = 0;  // a signal that stopped it
  };
  // What became of it since the last call; never blocks.
  Change look();

 private:
  pid_t pid_ = -1;
  UniqueFd stderr_pipe_;
  UniqueFd start_error_;  // an errno comes through where exec failed
};

}  // namespace run_recorder
