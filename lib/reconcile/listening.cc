#include "reconcile/listening.h"

#include <ctime>

namespace run_recorder {

Listening::Moment Listening::Moment::now() {
  timespec boot{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);
  return {std::chrono::steady_clock::now(),
          std::chrono::seconds{boot.tv_sec} + std::chrono::nanoseconds{boot.tv_nsec}, now_utc()};
}

Listening::Listening(const Moment& start) : state_{start.steady, start.steady}, last_(start) {}

Listening::State Listening::observe(const Moment& now, const Refusals& refusals) {
  const MutexLock lock(mutex_);
  const bool suspended = now.since_boot - last_.since_boot > kLate;
  const bool refuses = refusals.spool_failed || refusals.refused != refused_;
  if (suspended || refuses) state_.since = now.steady;
  const auto by_wall = now.wall - last_.wall;
  const auto by_steady = now.steady - last_.steady;
  if (by_wall + kSetBack < by_steady) state_.clock_since = now.steady;
  last_ = now;
  refused_ = refusals.refused;
  return state_;
}

}  // namespace run_recorder
