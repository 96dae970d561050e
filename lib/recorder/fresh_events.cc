#include "recorder/fresh_events.h"

#include <algorithm>
#include <utility>

namespace run_recorder {
namespace {

// What an event holds in memory beside its record's bytes: the decoded copy and its bookkeeping.
constexpr std::size_t kOverheadBytes = 700;
std::size_t footprint(const SpooledEvent& event) {
  return 2 * event.bytes + kOverheadBytes;
}

}  // namespace

void FreshEvents::add(std::vector<SpooledEvent>&& events) {
  const MutexLock lock(mutex_);
  for (SpooledEvent& event : events) {
    const std::size_t bytes = footprint(event);
    if (bytes_ + bytes > max_bytes_) return;  // a gap at the end only: what follows is not taken either
    bytes_ += bytes;
    events_.push_back(std::move(event));
  }
}

std::vector<SpooledEvent> FreshEvents::take(std::uint64_t seq, std::size_t max_events, std::size_t max_bytes,
                                            std::vector<SpooledEvent> room) {
  std::vector<SpooledEvent> taken = std::move(room);
  const MutexLock lock(mutex_);
  while (!events_.empty() && events_.front().seq < seq) {
    bytes_ -= footprint(events_.front());
    events_.pop_front();
  }
  if (!events_.empty() && events_.front().seq == seq) taken.reserve(std::min(max_events, events_.size()));
  std::size_t bytes = 0;
  while (!events_.empty() && events_.front().seq == seq && taken.size() < max_events) {
    bytes += events_.front().bytes;
    if (!taken.empty() && bytes > max_bytes) break;
    bytes_ -= footprint(events_.front());
    taken.push_back(std::move(events_.front()));
    events_.pop_front();
    ++seq;
  }
  return taken;
}

}  // namespace run_recorder
