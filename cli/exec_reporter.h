// Sends the events of `exec` beside its command, and before them those that were kept from earlier, without ever
// being waited for until the end. One thread.
#pragma once

#include <poll.h>

#include <cstdint>
#include <optional>
#include <string>

#include "cli/event_client.h"
#include "cli/stream_relay.h"
#include "cli/unsent_events.h"

namespace run_recorder {

class ExecReporter {
 public:
  // unsent_folder: as unsent_folder() has it. words: where what goes wrong is said; must outlive this.
  ExecReporter(const EventSocket& socket, const std::string& unsent_folder, StreamRelay& words);

  void send(std::string line);

  void work();

  pollfd polled() const { return {client_.fd(), client_.interest(), 0}; }
  std::optional<EventClient::Clock::time_point> wake_at() const { return client_.wake_at(); }

  // The end has come: tries again at once, and often.
  void hurry();
  // All events of this exec are acknowledged or refused, or never will be.
  bool done() const { return waiting_ == 0 || client_.forbidden(); }
  // What is not acknowledged is printed and kept, so that nothing is lost. stopped_by: the signal for which it was
  // not waited for any longer, or 0.
  void leave_unsent(int stopped_by);

 private:
  void send_kept();
  void settle_kept(const EventClient::Settled& settled);
  void say_away();

  std::string why_unsent(int stopped_by) const;

  EventClient client_;
  StreamRelay& words_;
  UnsentEvents unsent_;
  std::uint64_t sent_ = 0;
  std::uint64_t kept_ = 0;     // the first of sent_, from earlier
  std::uint64_t waiting_ = 0;  // of the others
  bool said_ = false;
};

}  // namespace run_recorder
