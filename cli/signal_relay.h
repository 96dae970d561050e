// Signals that arrive at `exec` while its command runs, as a descriptor to poll, and which of them the command must
// be sent. For a single-threaded process; one object at a time.
#pragma once

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"

namespace run_recorder {

class SignalRelay {
 public:
  // From here on the signals are blocked. Those that this process was told to ignore (nohup) stay ignored, here and
  // in the command.
  SignalRelay();
  ~SignalRelay();
  SignalRelay(const SignalRelay&) = delete;
  SignalRelay& operator=(const SignalRelay&) = delete;

  int fd() const { return fd_.get(); }

  struct Arrival {
    int signal = 0;
    // The kernel sent it for a key or a resized window, to all of the terminal's foreground group: the command has it
    // already.
    bool from_terminal = false;
  };
  std::vector<Arrival> arrivals();

  // In the child, before exec: as the caller of `exec` had set it.
  void restore_in_child() const;

  // Ends this process by the signal that ended the command, without leaving a core of our own. Returns where the
  // signal does not end a process.
  void die_by(int signal);

 private:
  UniqueFd fd_;
  sigset_t relayed_;
  sigset_t caller_mask_;
  struct sigaction caller_child_action_ {};
};

// SIGHUP, SIGINT, SIGQUIT, SIGTERM: asked to stop.
bool asks_to_stop(int signal);
// "SIGTERM"; "SIGRTMIN+3"; "signal 99" for what has no name.
std::string signal_name(int signal);

}  // namespace run_recorder
