#include "recorder/pace.h"

#include <algorithm>
#include <cassert>

namespace run_recorder {
namespace {

constexpr std::uint64_t kAnySenders = 5;

}  // namespace

Pace next_pace(Pace pace, std::uint64_t arrived, std::uint64_t applied) {
  if (arrived < kAnySenders) return Pace::kFull;
  const bool behind = arrived * 3 > applied;
  const bool ahead = arrived * 6 < applied;
  switch (pace) {
    case Pace::kFull:
      return arrived * 12 < applied ? Pace::kSlow : Pace::kFull;
    case Pace::kSmall:
      return arrived * 2 >= applied ? Pace::kFull : ahead ? Pace::kResting : Pace::kSmall;
    case Pace::kResting:
      return behind ? Pace::kSmall : ahead ? Pace::kSlow : Pace::kResting;
    case Pace::kSlow:
      return behind ? Pace::kResting : Pace::kSlow;
  }
  return pace;
}

std::size_t Pacer::batch_events(std::size_t most, std::uint64_t newest, Clock::time_point now) {
  assert(newest >= window_newest_);
  if (now >= window_began_ + kWindow) {
    pace_ = next_pace(pace_, newest - window_newest_, window_applied_);
    window_began_ = now;
    window_newest_ = newest;
    window_applied_ = 0;
  }
  return pace_ == Pace::kFull ? most : std::min(small_batch_, most);
}

void Pacer::committed(std::size_t events, Clock::time_point now, Clock::duration took) {
  window_applied_ += events;
  last_commit_ = now;
  last_commit_took_ = took;
}

Pacer::Clock::time_point Pacer::throttled_until(std::uint64_t waiting) const {
  if (waiting == 0) return {};
  const auto behind_commit = [this](int times) {
    return last_commit_ + std::min<Clock::duration>(times * last_commit_took_, kLongestRest);
  };
  switch (pace_) {
    case Pace::kFull:
      return waiting < trickle_ ? last_commit_ + kGather : Clock::time_point{};
    case Pace::kSmall:
      return {};
    case Pace::kResting:
      return behind_commit(1);
    case Pace::kSlow:
      return behind_commit(2);
  }
  return {};
}

}  // namespace run_recorder
