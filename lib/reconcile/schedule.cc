#include "reconcile/schedule.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace run_recorder {

Schedule::Due Schedule::next(Time now, std::chrono::milliseconds interval) const {
  Due due{Work::kNone, now + std::chrono::hours{24}};
  if (interval.count() != 0) due = {Work::kInterval, last_interval_ + interval};
  if (second_boot_ && second_boot_->due <= due.at) due = {Work::kSecondBoot, second_boot_->due};
  if (const auto ended = ended_due(); ended && *ended <= due.at) due = {Work::kEnded, *ended};
  return due;
}

void Schedule::boot_ended(Time now, std::optional<Plan> second, std::chrono::milliseconds grace) {
  assert(!second_boot_);
  last_interval_ = now;
  if (second) second_boot_ = SecondBoot{std::move(*second), now + grace + kAfterGrace};
}

const Plan& Schedule::second_boot() const {
  assert(second_boot_);
  return second_boot_->plan;
}

void Schedule::second_boot_again(Time due) {
  assert(second_boot_);
  second_boot_->due = due;
}

std::vector<ProcessEnd> Schedule::take_ended(Time now) {
  last_ended_ = now;
  return ended_.take_due(now);
}

void Schedule::check_again(std::vector<ProcessEnd> ends) {
  for (ProcessEnd& end : ends) {
    if (++end.checks < kMostChecks) ended_.add(std::move(end));
  }
}

std::optional<Schedule::Time> Schedule::ended_due() const {
  const auto next = ended_.next_due();
  return next ? std::optional(std::max(*next, last_ended_ + kBetweenEnded)) : std::nullopt;
}

}  // namespace run_recorder
