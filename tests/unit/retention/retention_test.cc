#include "retention/retention.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

TEST(Retention, KeepsEverythingForEverByDefault) {
  const RetentionPolicy policy;
  EXPECT_FALSE(shortest_retention(policy));
  for (const Status status : terminal_statuses()) EXPECT_FALSE(is_expired(policy, status, "c", 876'000h));
}

TEST(Retention, ACouncilsTimeWinsOverTheStatussAndThatOverKeep) {
  const RetentionPolicy policy{
      .keep = 30 * 24h, .failed = 90 * 24h, .stuck = 0ms, .councils = {{"nightly", 1h}, {"audit", 0ms}}};
  EXPECT_EQ(kept_for(policy, Status::kCompleted, "c"), 30 * 24h);
  EXPECT_EQ(kept_for(policy, Status::kFailed, "c"), 90 * 24h);
  EXPECT_EQ(kept_for(policy, Status::kStuck, "c"), 0ms);
  EXPECT_EQ(kept_for(policy, Status::kFailed, "nightly"), 1h);
  EXPECT_EQ(kept_for(policy, Status::kCompleted, "audit"), 0ms);
  EXPECT_EQ(shortest_retention(policy), 1h);
}

TEST(Retention, ARunExpiresExactlyAtItsTime) {
  const RetentionPolicy policy{.keep = 10s};
  EXPECT_FALSE(is_expired(policy, Status::kCompleted, "c", 9'999ms));
  EXPECT_TRUE(is_expired(policy, Status::kCompleted, "c", 10s));
}

TEST(Retention, AnActiveRunNeverGoes) {
  const RetentionPolicy policy{.keep = 1ms, .councils = {{"c", 1ms}}};
  for (const Status status : active_statuses()) EXPECT_FALSE(is_expired(policy, status, "c", 876'000h));
}

TEST(Retention, ForEverOfOneDoesNotStopTheOthers) {
  const RetentionPolicy policy{.keep = 0ms, .cancelled = 5s};
  EXPECT_EQ(shortest_retention(policy), 5s);
  EXPECT_TRUE(is_expired(policy, Status::kCancelled, "c", 6s));
  EXPECT_FALSE(is_expired(policy, Status::kCompleted, "c", 6s));
}

}  // namespace
}  // namespace run_recorder
