#include "process/gone_since.h"

#include <cassert>

namespace run_recorder {

GoneSince::Clock::time_point GoneSince::note(const std::string& identity, Clock::time_point now) {
  const MutexLock lock(mutex_);
  const auto [known, inserted] = since_.try_emplace(identity, now);
  const Clock::time_point since = known->second;
  if (!inserted) return since;
  order_.push_back(identity);
  assert(order_.size() == since_.size());
  if (order_.size() > most_) {
    since_.erase(order_.front());
    order_.pop_front();
  }
  return since;
}

}  // namespace run_recorder
