// The processes below the command that `exec` runs, to be ended together with it: what it started, what these
// started, and so on, as /proc shows them. One that has left its parent, as a daemon does, is none of them. Each is
// held by a pidfd, so that no signal reaches another process with its pid; at most 500. One thread.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <optional>
#include <vector>

#include "base/file.h"

namespace run_recorder {

class ProcessTree {
 public:
  // Adds what is below root, where it is given, and below those that were found before. True where that is any more.
  // Precondition: root is a child that has not been waited for, so that its pid is its own.
  bool find(std::optional<pid_t> root);
  // To each of those found that has not ended, parents first.
  void send(int signal) const;
  bool all_ended() const { return first_alive() == nullptr; }
  // For poll(2): readable once one more has ended; -1 where all have.
  pollfd polled() const;

 private:
  struct Process {
    pid_t pid = -1;
    UniqueFd fd;
  };
  bool find_once(std::optional<pid_t> root);
  const Process* first_alive() const;

  std::vector<Process> found_;
};

}  // namespace run_recorder
