#include "retention/retention.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

TEST(Retention, KeepsEverythingForEverByDefault) {
  const Retention retention;
  EXPECT_FALSE(retention.shortest());
  for (const Status status : terminal_statuses()) EXPECT_FALSE(retention.is_over(status, "c", 876'000h));
}

TEST(Retention, TheSpecialWinsOverTheGeneral) {
  Retention retention{
      30 * 24h, {{Status::kFailed, 90 * 24h}, {Status::kStuck, 0ms}}, {{"nightly", 1h}, {"audit", 0ms}}};
  EXPECT_EQ(retention.time_for(Status::kCompleted, "c"), 30 * 24h);
  EXPECT_EQ(retention.time_for(Status::kFailed, "c"), 90 * 24h);
  EXPECT_EQ(retention.time_for(Status::kStuck, "c"), 0ms);
  EXPECT_EQ(retention.time_for(Status::kFailed, "nightly"), 1h);
  EXPECT_EQ(retention.time_for(Status::kCompleted, "audit"), 0ms);
  EXPECT_EQ(retention.shortest(), 1h);
}

TEST(Retention, ATimeIsOverWhenItIsReached) {
  const Retention retention{10s, {}, {}};
  EXPECT_FALSE(retention.is_over(Status::kCompleted, "c", 9'999ms));
  EXPECT_TRUE(retention.is_over(Status::kCompleted, "c", 10s));
}

TEST(Retention, AnActiveRunNeverGoes) {
  const Retention retention{1ms, {{Status::kRunning, 1ms}}, {{"c", 1ms}}};
  for (const Status status : active_statuses()) EXPECT_FALSE(retention.is_over(status, "c", 876'000h));
}

TEST(Retention, ForEverOfOneDoesNotStopTheOthers) {
  const Retention retention{0ms, {{Status::kCancelled, 5s}}, {}};
  EXPECT_EQ(retention.shortest(), 5s);
  EXPECT_TRUE(retention.is_over(Status::kCancelled, "c", 6s));
  EXPECT_FALSE(retention.is_over(Status::kCompleted, "c", 6s));
}

}  // namespace
}  // namespace run_recorder
