// A process beside `exec` and its command, in the same process group and control group, for the two things that exec
// cannot do itself. It outlives exec: where exec is killed, or leaves while its standard error (or output) is stalled
// or processes of the command still write, it carries that stream of the command on, so that nobody dies of a closed
// pipe. And it is a witness: it never acts on a signal but keeps it pending, so that a signal which was sent to a
// whole group (by systemd, timeout, a shell) can be told from one that was sent to exec alone, whenever one looks.
// For a single-threaded process that has blocked the signals (SignalRelay); one object per command.
#pragma once

#include <string_view>

#include "base/file.h"

namespace run_recorder {

class Sidecar {
 public:
  // None: nothing outlives exec, no signal is seen.
  Sidecar() = default;
  // Forks. pipe is the reading end of the command's stream, or -1; the caller keeps its own. stream: ours, where that
  // goes. The error is about fork and pipes.
  static Result<Sidecar> start(int pipe, int stream);

  // Has that signal reached it since it was told to forget? False where that cannot be seen.
  bool has_received(int signal) const;
  void forget_signals();

  // Each of these once at most, the last two instead of each other. Without them, when this object or process ends,
  // it takes over. Nobody reads our stream any more: the command is to notice that at its next write.
  void close_pipe();
  // Nothing is left to do: it ends.
  void dismiss();
  // It writes what is left, then what still comes through the pipe, and ends. A request to stop ends it where the
  // command and its processes are gone and nobody reads.
  void take_over(std::string_view left);

 private:
  void order(char order);

  UniqueFd orders_;  // its end is our end
  UniqueFd status_;  // /proc/PID/status
};

}  // namespace run_recorder
