// Since when events are accepted without a break, by clocks of the test's own.
#include "reconcile/listening.h"

#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;

const Timestamp kWall = parse_rfc3339("2026-03-01T12:00:00Z").value();

// All clocks after so long a time; the host was suspended for `asleep` of it.
Listening::Moment after(std::chrono::milliseconds time, std::chrono::milliseconds asleep = 0ms) {
  return {Listening::Steady(1'000s) + time - asleep, 1'000s + time, kWall + time};
}
Listening::Steady steady_after(std::chrono::milliseconds time) {
  return after(time).steady;
}

TEST(Listening, LastsSinceTheStartWhileNothingIsRefused) {
  Listening listening(after(0ms));
  for (int second = 1; second <= 60; ++second) listening.observe(after(second * 1s), {});
  EXPECT_EQ(listening.observe(after(60s), {}).since, steady_after(0ms));
}

TEST(Listening, BeginsAnewWhereALineWasRefused) {
  Listening listening(after(0ms));
  EXPECT_EQ(listening.observe(after(1s), {.refused = 1}).since, steady_after(1s));
  EXPECT_EQ(listening.observe(after(2s), {.refused = 1}).since, steady_after(1s)) << "no more were";
  EXPECT_EQ(listening.observe(after(3s), {.refused = 2}).since, steady_after(3s));
}

TEST(Listening, BeginsWhenTheSpoolAppendsAgain) {
  Listening listening(after(0ms));
  EXPECT_EQ(listening.observe(after(1s), {.spool_failed = true}).since, steady_after(1s));
  EXPECT_EQ(listening.observe(after(2s), {.spool_failed = true}).since, steady_after(2s));
  EXPECT_EQ(listening.observe(after(3s), {}).since, steady_after(2s));
}

TEST(Listening, BeginsAnewAfterASuspension) {
  Listening listening(after(0ms));
  const auto woken = after(1h, 1h - 1s);
  EXPECT_EQ(listening.observe(woken, {}).since, woken.steady);
}

TEST(Listening, IsNotInterruptedByASmallDelay) {
  Listening listening(after(0ms));
  EXPECT_EQ(listening.observe(after(Listening::kLate), {}).since, steady_after(0ms));
}

TEST(Listening, TracksWhenTheWallClockWasLastSetBack) {
  Listening listening(after(0ms));
  EXPECT_EQ(listening.observe(after(1s), {}).clock_since, steady_after(0ms));
  Listening::Moment set_back = after(2s);
  set_back.wall -= 1h;
  EXPECT_EQ(listening.observe(set_back, {}).clock_since, steady_after(2s));
  EXPECT_EQ(listening.observe(set_back, {}).since, steady_after(0ms)) << "events were accepted all the same";
}

}  // namespace
}  // namespace run_recorder::testing
