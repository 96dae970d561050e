// When processes were first seen gone, by a pass or by the watch: whoever sent for one of them is given a while to
// tell how its run ended. Bounded: what was seen longest ago is forgotten, and then counts as seen just now. Safe
// from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <string>
#include <unordered_map>

#include "base/mutex.h"

namespace run_recorder {

class GoneSince {
 public:
  using Clock = std::chrono::steady_clock;
  explicit GoneSince(std::size_t most = 65'536) : most_(most) {}

  // When it was first seen gone; now, where this is the first time.
  Clock::time_point note(const std::string& identity, Clock::time_point now);

 private:
  const std::size_t most_;
  Mutex mutex_;
  std::unordered_map<std::string, Clock::time_point> since_ GUARDED_BY(mutex_);
  std::deque<std::string> order_ GUARDED_BY(mutex_);  // of since_, the oldest first
};

}  // namespace run_recorder
