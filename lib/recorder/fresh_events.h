// Events that were just made durable, kept in memory so that the recorder does not read them back from the spool.
// Bounded by bytes: what does not fit is simply read from the spool later. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/mutex.h"
#include "run/event.h"

namespace run_recorder {

// A durable event and its place in the spool.
struct SpooledEvent {
  std::uint64_t seq = 0;
  Event event;
  std::size_t bytes = 0;  // of its record
};

class FreshEvents {
 public:
  explicit FreshEvents(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  // In order of seq. Takes what there is room for.
  void add(std::vector<SpooledEvent>&& events);
  // The events seq, seq + 1, … as far as they are here without a gap, at most max_events and (beyond the first)
  // max_bytes. Forgets what lies before seq. room: an empty vector, whose room is used.
  std::vector<SpooledEvent> take(std::uint64_t seq, std::size_t max_events, std::size_t max_bytes,
                                 std::vector<SpooledEvent> room = {});

 private:
  const std::size_t max_bytes_;
  Mutex mutex_;
  std::deque<SpooledEvent> events_ GUARDED_BY(mutex_);
  std::size_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace run_recorder
