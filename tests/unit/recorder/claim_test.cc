#include "recorder/claim.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

const std::chrono::steady_clock::time_point kNow{};

Holder holder(std::string incarnation, std::string last_seen, std::chrono::milliseconds seen_ago) {
  return {std::move(incarnation), "host-2", std::move(last_seen), seen_ago};
}

TEST(Claim, OnesOwnEarlierIncarnationIsTakenOverAtOnce) {
  EXPECT_EQ(Claimant(20s).judge(holder("i", "12:00:00", 0s), true, kNow), Claim::kTakeOver);
}

TEST(Claim, OneThatHasBeenSilentForLongIsTakenOverAtOnce) {
  EXPECT_EQ(Claimant(20s).judge(holder("i", "12:00:00", 20s), false, kNow), Claim::kTakeOver);
}

TEST(Claim, OneThatWasSeenJustNowIsWaitedFor) {
  Claimant claimant(20s);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:00", 1s), false, kNow), Claim::kWait);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:00", 19s), false, kNow + 18s), Claim::kWait);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:00", 20s), false, kNow + 19s), Claim::kTakeOver);
}

TEST(Claim, AHolderThatWritesMeanwhileIsAlive) {
  Claimant claimant(20s);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:00", 10s), false, kNow), Claim::kWait);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:15", 0s), false, kNow + 5s), Claim::kRenew);
}

TEST(Claim, AnotherOneThatTookItMeanwhileIsAlive) {
  Claimant claimant(20s);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:00", 10s), false, kNow), Claim::kWait);
  EXPECT_EQ(claimant.judge(holder("j", "12:00:00", 10s), false, kNow), Claim::kRenew);
}

TEST(Claim, AClockThatWasSetBackDoesNotMakeItWaitForEver) {
  Claimant claimant(20s);
  EXPECT_EQ(claimant.judge(holder("i", "13:00:00", 0s), false, kNow), Claim::kWait);
  EXPECT_EQ(claimant.judge(holder("i", "13:00:00", 0s), false, kNow + 20s), Claim::kTakeOver);
}

TEST(Claim, ResetDropsWhatWasSeenOfAnEarlierHolder) {
  Claimant claimant(20s);
  EXPECT_EQ(claimant.judge(holder("i", "12:00:00", 10s), false, kNow), Claim::kWait);
  claimant.reset();
  EXPECT_EQ(claimant.judge(holder("j", "12:00:01", 10s), false, kNow), Claim::kWait);
}

}  // namespace
}  // namespace run_recorder
