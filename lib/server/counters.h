// The event socket's counters, written by its two threads and read by any. Every function is safe from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "server/types.h"

namespace run_recorder {

class Counters {
 public:
  // Several changes at once: change(counters), under the lock.
  template <class Change>
  void update(const Change& change) {
    const MutexLock lock(mutex_);
    change(counters_);
  }
  ServerCounters snapshot() const {
    const MutexLock lock(mutex_);
    return counters_;
  }
  std::string spool_failure() const {
    const MutexLock lock(mutex_);
    return counters_.spool_failure;
  }

 private:
  mutable Mutex mutex_;
  ServerCounters counters_ GUARDED_BY(mutex_);
};

// For use within update().
void count_type(ServerCounters& counters, std::string_view type);
void count_excluded(ServerCounters& counters, std::string_view type);
void count_answer(ServerCounters& counters, std::chrono::steady_clock::duration taken, std::size_t events);

}  // namespace run_recorder
