// Sends the events of `exec` beside its command, without ever being waited for until the end. One thread.
#pragma once

#include <poll.h>

#include <cstdint>
#include <optional>
#include <string>

#include "cli/event_client.h"
#include "cli/stderr_relay.h"

namespace run_recorder {

class ExecReporter {
 public:
  // words: where what goes wrong is said; must outlive this.
  ExecReporter(const std::string& socket_path, StderrRelay& words);

  void send(std::string line);

  void work();

  pollfd polled() const { return {client_.fd(), client_.interest(), 0}; }
  std::optional<EventClient::Clock::time_point> wake_at() const { return client_.wake_at(); }

  // The end has come: tries again at once, and often.
  void hurry();
  // All is acknowledged or refused, or never will be.
  bool done() const { return client_.waiting_lines() == 0 || client_.forbidden(); }
  // What is not acknowledged is printed, so that nothing is lost. stopped_by: the signal for which it was not waited
  // for any longer, or 0.
  void print_unsent(int stopped_by);

 private:
  void say_away();

  std::string why_unsent(int stopped_by) const;

  EventClient client_;
  StderrRelay& words_;
  std::uint64_t sent_ = 0;
  bool said_ = false;
};

}  // namespace run_recorder
