// When processes were first seen gone, by a look or by the watch: whoever sent for one of them is given a while to
// tell how its run ended. Bounded: what was seen longest ago is forgotten, and then counts as seen just now. Safe
// from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <unordered_map>

namespace run_recorder {

class GoneSince {
 public:
  using Clock = std::chrono::steady_clock;
  explicit GoneSince(std::size_t most = 65'536) : most_(most) {}

  // When it was first seen gone; now, where this is the first time.
  Clock::time_point note(const std::string& identity, Clock::time_point now);

 private:
  const std::size_t most_;
  std::mutex mutex_;
  // guarded by mutex_
  std::unordered_map<std::string, Clock::time_point> since_;
  std::deque<std::string> order_;
};

}  // namespace run_recorder
