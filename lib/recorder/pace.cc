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
    case Pace::kPieces:
      return arrived * 2 >= applied ? Pace::kFull : ahead ? Pace::kResting : Pace::kPieces;
    case Pace::kResting:
      return behind ? Pace::kPieces : ahead ? Pace::kSlow : Pace::kResting;
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
  return pace_ == Pace::kFull ? most : std::min(in_pieces_, most);
}

void Pacer::committed(std::size_t events, Clock::time_point now) {
  window_applied_ += events;
  last_commit_ = now;
}

Pacer::Clock::time_point Pacer::throttled_until(std::uint64_t waiting) const {
  const bool gathers = pace_ == Pace::kFull && waiting > 0 && waiting < trickle_;
  return gathers ? last_commit_ + kGather : Clock::time_point{};
}

Pacer::Clock::time_point Pacer::rests_until(Clock::time_point now, Clock::duration worked) const {
  const int times = pace_ == Pace::kSlow ? 3 : pace_ == Pace::kResting ? 1 : 0;
  return now + std::min<Clock::duration>(times * worked, kLongestRest);
}

}  // namespace run_recorder
