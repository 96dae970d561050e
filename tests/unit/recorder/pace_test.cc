#include "recorder/pace.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using Time = Pacer::Clock::time_point;

TEST(Pace, SlowsDownForAFewWhoSendBesideABacklog) {
  EXPECT_EQ(next_pace(Pace::kFull, 0, 4'000), Pace::kFull) << "nobody waits for an acknowledgement";
  EXPECT_EQ(next_pace(Pace::kFull, 4, 4'000), Pace::kFull);
  EXPECT_EQ(next_pace(Pace::kFull, 100, 4'000), Pace::kSlow);
  EXPECT_EQ(next_pace(Pace::kFull, 1'000, 4'000), Pace::kFull) << "a flood";
  EXPECT_EQ(next_pace(Pace::kFull, 100, 100), Pace::kFull) << "no backlog";
}

TEST(Pace, QuickensStepByStepSoThatTheBacklogGoesDown) {
  EXPECT_EQ(next_pace(Pace::kSlow, 100, 310), Pace::kSlow);
  EXPECT_EQ(next_pace(Pace::kSlow, 100, 150), Pace::kResting) << "one bad moment is no flood";
  EXPECT_EQ(next_pace(Pace::kResting, 100, 310), Pace::kResting);
  EXPECT_EQ(next_pace(Pace::kResting, 100, 290), Pace::kPieces);
  EXPECT_EQ(next_pace(Pace::kPieces, 100, 290), Pace::kPieces);
  EXPECT_EQ(next_pace(Pace::kPieces, 100, 200), Pace::kFull);
  EXPECT_EQ(next_pace(Pace::kPieces, 100, 610), Pace::kResting);
  EXPECT_EQ(next_pace(Pace::kResting, 100, 610), Pace::kSlow);
  for (const Pace pace : {Pace::kPieces, Pace::kResting, Pace::kSlow}) {
    EXPECT_EQ(next_pace(pace, 4, 310), Pace::kFull) << "they have gone";
  }
}

constexpr std::size_t kInPieces = 1'000;
constexpr std::size_t kTrickle = 200;
constexpr Time kStart{std::chrono::hours{1}};

// One that a few senders beside a backlog have slowed down.
Pacer slow_pacer() {
  Pacer pacer(kInPieces, kTrickle, 0);
  static_cast<void>(pacer.batch_events(4'000, 0, kStart));
  pacer.committed(4'000, kStart);
  static_cast<void>(pacer.batch_events(4'000, 10, kStart + Pacer::kWindow));
  return pacer;
}

TEST(Pacer, GivesLargeBatchesWhileNobodySends) {
  Pacer pacer(kInPieces, kTrickle, 0);
  EXPECT_EQ(pacer.batch_events(4'000, 0, kStart), 4'000U);
  pacer.committed(4'000, kStart);
  EXPECT_EQ(pacer.batch_events(4'000, 0, kStart + Pacer::kWindow), 4'000U);
}

TEST(Pacer, GivesSmallerBatchesBesideAFewSenders) {
  Pacer pacer = slow_pacer();
  EXPECT_EQ(pacer.pace(), Pace::kSlow);
  EXPECT_EQ(pacer.batch_events(4'000, 10, kStart + Pacer::kWindow), kInPieces);
  EXPECT_EQ(pacer.batch_events(7, 10, kStart + Pacer::kWindow), 7U);
}

TEST(Pacer, KeepsItsPaceUntilTheWindowHasPassed) {
  Pacer pacer = slow_pacer();
  pacer.committed(10, kStart + Pacer::kWindow);
  const Time end = kStart + 2 * Pacer::kWindow;
  static_cast<void>(pacer.batch_events(4'000, 1'000, end - milliseconds{1}));
  EXPECT_EQ(pacer.pace(), Pace::kSlow);
  static_cast<void>(pacer.batch_events(4'000, 1'000, end));
  EXPECT_EQ(pacer.pace(), Pace::kResting);
}

TEST(Pacer, RestsAsLongAsThePaceSays) {
  Pacer pacer = slow_pacer();
  EXPECT_EQ(pacer.throttled_until(1'000), Time{}) << "rests are in commits, not between them";
  EXPECT_EQ(pacer.rests_until(kStart, milliseconds{2}), kStart + milliseconds{6});
  EXPECT_EQ(pacer.rests_until(kStart, milliseconds{400}), kStart + Pacer::kLongestRest);
  pacer.committed(10, kStart + Pacer::kWindow);
  static_cast<void>(pacer.batch_events(4'000, 1'000, kStart + 2 * Pacer::kWindow));
  ASSERT_EQ(pacer.pace(), Pace::kResting);
  EXPECT_EQ(pacer.rests_until(kStart, milliseconds{2}), kStart + milliseconds{2});
  EXPECT_EQ(Pacer(kInPieces, kTrickle, 0).rests_until(kStart, milliseconds{2}), kStart) << "at the full pace";
}

TEST(Pacer, GathersAFewEventsAfterACommit) {
  Pacer pacer(kInPieces, kTrickle, 0);
  EXPECT_LT(pacer.throttled_until(1), kStart) << "an event after a pause does not wait";
  pacer.committed(1, kStart);
  EXPECT_EQ(pacer.throttled_until(kTrickle - 1), kStart + Pacer::kGather);
  EXPECT_EQ(pacer.throttled_until(kTrickle), Time{});
  EXPECT_EQ(pacer.throttled_until(0), Time{});
}

}  // namespace
}  // namespace run_recorder
