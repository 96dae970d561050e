// The event socket's counters, written by its two threads and read by any.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

#include "server/server.h"

namespace run_recorder {

class Counters {
 public:
  // Several changes at once: change(counters).
  template <class Change>
  void update(const Change& change) {
    const std::lock_guard lock(mutex_);
    change(counters_);
  }
  ServerCounters snapshot() const {
    const std::lock_guard lock(mutex_);
    return counters_;
  }

 private:
  mutable std::mutex mutex_;
  ServerCounters counters_;  // guarded by mutex_
};

// For use within update().
void count_type(ServerCounters& counters, std::string_view type);
void count_excluded(ServerCounters& counters, std::string_view type);
void count_answer(ServerCounters& counters, std::chrono::steady_clock::duration taken, std::size_t events);

}  // namespace run_recorder
