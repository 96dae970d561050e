// Waits until everything that peers had sent by one moment has been read, and settled: what each socket held then, in
// bytes, and the end of input where the peer had closed. So an event that was sent before a process was looked at is
// durable before anything is concluded from what was seen. Belongs to the sessions' thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "server/session.h"

namespace run_recorder {

class ReadBarrier {
 public:
  // Everything that the sessions' sockets hold now.
  explicit ReadBarrier(const SessionContext& context);

  // Whether all of it is settled by now: durable, or refused.
  bool passed();

 private:
  struct Waited {
    std::shared_ptr<const Session> session;  // also one that has ended meanwhile: its lines may wait for the disk
    std::uint64_t bytes = 0;                 // of its input, from the first one
    bool to_end = false;                     // the peer had closed its end: up to the end of input
    bool read = false;                       // that far; then `line` is its last line until there
    std::uint64_t line = 0;
  };
  static bool is_settled(Waited& waited);

  std::vector<Waited> waited_;
};

}  // namespace run_recorder
