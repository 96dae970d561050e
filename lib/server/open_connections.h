// Which connections of the event socket are open, by number. Every function is safe from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <unordered_set>

#include "base/mutex.h"

namespace run_recorder {

class OpenConnections {
 public:
  void add(std::uint64_t number) {
    const MutexLock lock(mutex_);
    numbers_.insert(number);
  }
  void remove(std::uint64_t number) {
    const MutexLock lock(mutex_);
    numbers_.erase(number);
    changed_.notify_all();
  }
  bool contains(std::uint64_t number) const {
    const MutexLock lock(mutex_);
    return numbers_.contains(number);
  }
  std::size_t size() const {
    const MutexLock lock(mutex_);
    return numbers_.size();
  }
  void wait_until_none(std::chrono::milliseconds within) {
    MutexLock lock(mutex_);
    changed_.wait_for(lock, within, [this] {
      mutex_.assert_held();
      return numbers_.empty();
    });
  }

 private:
  mutable Mutex mutex_;
  Condition changed_;
  std::unordered_set<std::uint64_t> numbers_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
