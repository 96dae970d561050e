// What the metrics ask of runs by council.
#include <gmock/gmock.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr const char* kSelf = "recorder-1";

using StoreCouncils = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreCouncils, both_databases(), name_of);

run_recorder::Run run_of(std::string council, std::string run_id, const char* started_at,
                         Status status = Status::kRunning, const char* finalized_at = nullptr) {
  auto run = running(std::move(run_id));
  run.council = std::move(council);
  run.status = status;
  run.started_at.reset();
  if (started_at) run.started_at = at(started_at);
  if (finalized_at) run.finalized_at = at(finalized_at);
  return run;
}

std::vector<std::string> names_of(const std::vector<RecentCouncil>& councils) {
  std::vector<std::string> names;
  for (const RecentCouncil& council : councils) names.push_back(council.council);
  return names;
}

}  // namespace

TEST_P(StoreCouncils, OfNoRunsNothing) {
  EXPECT_THAT(store().running_councils(10).value().rows, IsEmpty());
  EXPECT_EQ(store().running_councils(10).value().others, 0U);
  EXPECT_THAT(store().recent_councils(kSelf, 10, 10).value(), IsEmpty());
}

TEST_P(StoreCouncils, RunningRowsAreCountedByCouncil) {
  for (const char* id : {"a1", "a2", "a3"}) store_run(run_of("a", id, "2026-01-01T00:00:00Z"));
  for (const char* id : {"b1", "b2"}) store_run(run_of("b", id, nullptr));
  store_run(run_of("c", "c1", "2026-01-01T00:00:00Z"));
  store_run(run_of("d", "d1", "2026-01-01T00:00:00Z"));
  store_run(run_of("a", "a4", "2026-01-01T00:00:00Z", Status::kCompleted, "2026-01-01T00:00:01Z"));
  store_run(run_of("e", "e1", "2026-01-01T00:00:00Z", Status::kStuck, "2026-01-01T00:00:01Z"));
  const auto all = store().running_councils(10).value();
  EXPECT_THAT(all.rows, ElementsAre(Pair("a", 3), Pair("b", 2), Pair("c", 1), Pair("d", 1)));
  EXPECT_EQ(all.others, 0U);
  const auto most = store().running_councils(2).value();
  EXPECT_THAT(most.rows, ElementsAre(Pair("a", 3), Pair("b", 2)));
  EXPECT_EQ(most.others, 2U);
}

TEST_P(StoreCouncils, TheLatestStartAndSuccessAreRead) {
  store_run(run_of("a", "a1", "2026-01-01T00:00:00Z", Status::kCompleted, "2026-01-05T00:00:00.000001Z"));
  store_run(run_of("a", "a2", "2026-01-02T00:00:00Z", Status::kCompleted, "2026-01-03T00:00:00Z"));
  store_run(run_of("a", "a3", "2026-01-04T00:00:00Z", Status::kFailed, "2026-01-06T00:00:00Z"));
  store_run(run_of("b", "b1", "2026-01-05T00:00:00Z"));
  store_run(run_of("c", "c1", nullptr, Status::kCompleted, "2026-01-02T00:00:00Z"));
  const auto councils = store().recent_councils(kSelf, 10, 10).value();
  ASSERT_THAT(names_of(councils), ElementsAre("a", "b", "c")) << "most runs first, then the newest start";
  EXPECT_EQ(councils[0].last_start, at("2026-01-04T00:00:00Z"));
  EXPECT_EQ(councils[0].last_success, at("2026-01-05T00:00:00.000001Z"));
  EXPECT_EQ(councils[1].last_start, at("2026-01-05T00:00:00Z"));
  EXPECT_FALSE(councils[1].last_success);
  EXPECT_FALSE(councils[2].last_start);
  EXPECT_EQ(councils[2].last_success, at("2026-01-02T00:00:00Z"));
  EXPECT_THAT(names_of(store().recent_councils(kSelf, 10, 2).value()), ElementsAre("a", "b"));
}

TEST_P(StoreCouncils, WhatOtherRecordersWroteLastIsNotRead) {
  auto theirs = run_of("theirs", "t1", "2026-01-01T00:00:00Z");
  theirs.recorder = "recorder-2";
  store_run(theirs);
  auto nobodys = run_of("nobodys", "n1", "2026-01-01T00:00:00Z");
  nobodys.recorder = "";
  store_run(nobodys);
  EXPECT_THAT(names_of(store().recent_councils(kSelf, 10, 10).value()), ElementsAre("nobodys"));
}

TEST_P(StoreCouncils, ATimeAheadCountsAsTheOneWhenTheRowWasWritten) {
  store_run(run_of("a", "a1", "9999-01-01T00:00:00Z", Status::kCompleted, "9999-12-31T00:00:00Z"));
  const auto councils = store().recent_councils(kSelf, 10, 10).value();
  EXPECT_EQ(councils[0].last_start, stored("a1").inserted_at);
  EXPECT_EQ(councils[0].last_success, stored("a1").updated_at);
}

TEST_P(StoreCouncils, OnlyTheNewestRowsAreRead) {
  store_run(run_of("a", "a1", "2026-01-01T00:00:00Z", Status::kCompleted, "2026-01-01T00:00:01Z"));
  store_run(run_of("a", "a2", "2026-01-03T00:00:00Z"));
  store_run(run_of("b", "b1", "2026-01-02T00:00:00Z", Status::kCompleted, "2026-01-02T00:00:01Z"));
  const auto councils = store().recent_councils(kSelf, 2, 10).value();
  ASSERT_THAT(names_of(councils), ElementsAre("a", "b"));
  EXPECT_FALSE(councils[0].last_success) << "further back than was read";
  EXPECT_THAT(names_of(store().recent_councils(kSelf, 1, 10).value()), ElementsAre("a"));
}

}  // namespace run_recorder::testing
