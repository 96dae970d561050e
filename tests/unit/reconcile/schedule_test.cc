// When passes come that nobody asks for, by a clock of the test's own.
#include "reconcile/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Work = Schedule::Work;

constexpr Schedule::Time kStart{1'000s};
constexpr auto kGrace = 30s;
constexpr auto kInterval = 300s;
constexpr auto kSecondDue = kGrace + Schedule::kAfterGrace;

ProcessEnd end_of(std::string process, Schedule::Time due) {
  return {std::move(process), {}, due, 0};
}

void expect_next(const Schedule& schedule, Schedule::Time now, std::chrono::milliseconds interval, Work work,
                 Schedule::Time at) {
  const Schedule::Due due = schedule.next(now, interval);
  EXPECT_EQ(due.work, work);
  EXPECT_EQ(due.at, at);
}

TEST(Schedule, WithoutAnIntervalNothingIsDue) {
  Schedule schedule;
  schedule.boot_ended(kStart, std::nullopt, kGrace);
  expect_next(schedule, kStart, 0s, Work::kNone, kStart + 24h);
}

TEST(Schedule, IntervalsBeginWithTheEndOfTheBootPass) {
  Schedule schedule;
  schedule.boot_ended(kStart, std::nullopt, kGrace);
  expect_next(schedule, kStart, kInterval, Work::kInterval, kStart + kInterval);
  schedule.interval_began(kStart + 400s);
  expect_next(schedule, kStart + 500s, kInterval, Work::kInterval, kStart + 400s + kInterval);
}

TEST(Schedule, TheSecondBootPassComesAfterTheGrace) {
  Schedule schedule;
  schedule.boot_ended(kStart, Plan{.run_ids = {"r"}}, kGrace);
  expect_next(schedule, kStart, kInterval, Work::kSecondBoot, kStart + kSecondDue);
  expect_next(schedule, kStart, 0s, Work::kSecondBoot, kStart + kSecondDue);
  EXPECT_THAT(schedule.second_boot().run_ids, ElementsAre("r"));
  schedule.second_boot_done();
  expect_next(schedule, kStart, kInterval, Work::kInterval, kStart + kInterval);
}

TEST(Schedule, TheSecondBootPassComesAgainWhereItLeftRows) {
  Schedule schedule;
  schedule.boot_ended(kStart, Plan{.run_ids = {"r"}}, kGrace);
  schedule.second_boot_again(kStart + kSecondDue + kGrace);
  expect_next(schedule, kStart + kSecondDue, kInterval, Work::kSecondBoot, kStart + kSecondDue + kGrace);
  EXPECT_THAT(schedule.second_boot().run_ids, ElementsAre("r"));
}

TEST(Schedule, AnIntervalComesBeforeASecondBootPassThatIsLater) {
  Schedule schedule;
  schedule.boot_ended(kStart, Plan{}, 1h);
  expect_next(schedule, kStart, kInterval, Work::kInterval, kStart + kInterval);
}

TEST(Schedule, EndedProcessesAreDueFirst) {
  Schedule schedule;
  schedule.boot_ended(kStart, Plan{}, kGrace);
  EXPECT_TRUE(schedule.add_ended(end_of("a", kStart + kGrace)));
  EXPECT_FALSE(schedule.add_ended(end_of("b", kStart + kGrace + 1s)));
  expect_next(schedule, kStart, kInterval, Work::kEnded, kStart + kGrace);
  const auto taken = schedule.take_ended(kStart + kGrace);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].process, "a");
  expect_next(schedule, kStart, kInterval, Work::kSecondBoot, kStart + kSecondDue);
}

TEST(Schedule, EndsThatComeTogetherAreTakenTogether) {
  Schedule schedule;
  schedule.boot_ended(kStart, std::nullopt, kGrace);
  EXPECT_THAT(schedule.take_ended(kStart), IsEmpty());
  schedule.add_ended(end_of("a", kStart + 1ms));
  EXPECT_EQ(schedule.ended_due(), kStart + Schedule::kBetweenEnded);
}

TEST(Schedule, AnEndIsCheckedABoundedNumberOfTimes) {
  Schedule schedule;
  schedule.boot_ended(kStart, std::nullopt, kGrace);
  schedule.add_ended(end_of("a", kStart));
  int checks = 0;
  for (auto ends = schedule.take_ended(kStart); !ends.empty(); ends = schedule.take_ended(kStart)) {
    ++checks;
    schedule.check_again(std::move(ends));
  }
  EXPECT_EQ(checks, Schedule::kMostChecks);
  EXPECT_FALSE(schedule.ended_due());
}

TEST(SecondBootPlan, TakesTheYoungRowsAndTheDeferredOnesByName) {
  const Timestamp started = parse_rfc3339("2026-03-01T12:00:00Z").value();
  const Plan plan = second_boot_plan(started, kGrace, std::vector<std::string>{"r"});
  EXPECT_EQ(plan.trigger, PassTrigger::kBoot);
  ASSERT_TRUE(plan.within);
  EXPECT_EQ(plan.within->before, started);
  EXPECT_EQ(plan.within->not_before, started - kGrace);
  EXPECT_THAT(plan.run_ids, ElementsAre("r"));
}

TEST(SecondBootPlan, TakesAllRowsWhereTooManyWereDeferred) {
  const Timestamp started = parse_rfc3339("2026-03-01T12:00:00Z").value();
  const Plan plan = second_boot_plan(started, kGrace, std::nullopt);
  ASSERT_TRUE(plan.within);
  EXPECT_EQ(plan.within->before, started);
  EXPECT_FALSE(plan.within->not_before);
  EXPECT_THAT(plan.run_ids, IsEmpty());
}

}  // namespace
}  // namespace run_recorder::testing
