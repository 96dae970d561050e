// The command that `exec` runs, as a child process. For a single-threaded process that waits for its children nowhere
// else; one object per command.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "cli/signal_relay.h"

namespace run_recorder {

// As a shell says it of a command that is not there, or that it cannot run.
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitNotExecutable = 126;

// How the command ended.
struct Ending {
  int exit_status = 0;  // where it exited; one of the above where it could not be run
  int signal = 0;       // where a signal ended it, else 0
  bool core_dumped = false;
  int start_error = 0;  // errno of exec where it could not be run, else 0
  bool succeeded() const { return signal == 0 && exit_status == 0; }
};

class Child {
 public:
  // Forks, and executes command (looked for in PATH) with these variables added to the environment, and with
  // stdout_fd as its standard output and stderr_fd as its standard error (-1: ours). The error is about fork and
  // pipes only; a command that cannot be run is an Ending.
  static Result<Child> start(const std::vector<std::string>& command,
                             const std::vector<std::pair<std::string, std::string>>& environment, int stdout_fd,
                             int stderr_fd, const SignalRelay& signals);

  pid_t pid() const { return pid_; }

  // 0, or the errno.
  int send(int signal) const;
  // It has received that signal, as far as can be told, where witnessed says that everybody around it has. Never true
  // of a signal that would have ended or stopped it.
  bool has_received(int signal, bool witnessed) const;

  struct Change {
    std::optional<Ending> ended;
    int stopped_by = 0;  // a signal that stopped it
  };
  // What became of it since the last call; never blocks. Reaps whatever else has ended: as process 1 we inherit the
  // orphans.
  Change look();

 private:
  pid_t pid_ = -1;
  UniqueFd status_;       // /proc/PID/status
  UniqueFd start_error_;  // an errno comes through where exec failed
};

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};
// Both ends are closed on exec.
Result<Pipe> make_pipe();

// Reaps every child that has ended, while there is no Child to look at.
void reap_children();

}  // namespace run_recorder
