// Expectations and findings, and what of the runs they are judged by.
#include <gmock/gmock.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

using StoreFindings = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreFindings, both_databases(), name_of);

run_recorder::Run started(std::string council, std::string run_id, const char* started_at,
                          Status status = Status::kRunning, const char* finalized_at = nullptr) {
  auto run = running(std::move(run_id));
  run.council = std::move(council);
  run.status = status;
  run.started_at.reset();
  if (started_at) run.started_at = at(started_at);
  if (finalized_at) run.finalized_at = at(finalized_at);
  return run;
}

NewFinding missed(std::string expectation) {
  return {FindingKind::kMissed, std::move(expectation), "nightly*", {}, at("2026-01-01T03:00:00Z"), {}};
}
NewFinding overlong(std::string expectation, std::string run_id) {
  return {FindingKind::kOverlong, std::move(expectation), "nightly", std::move(run_id), {}, 90min};
}

std::vector<Finding> findings_of(Store& store, const FindingFilter& filter = {}) {
  return store.list_findings(filter, 100, "").value().findings;
}

std::vector<std::string> last_ids(Store& store, const std::vector<std::string>& councils) {
  std::vector<std::string> ids;
  for (const StartedRun& run : store.last_starts(councils).value()) ids.push_back(run.run_id);
  return ids;
}

}  // namespace

TEST_P(StoreFindings, AnExpectationIsKnownSinceItWasAdoptedAsItIs) {
  const std::vector<ExpectationDefinition> first{{"b", "every hour"}, {"a", "every day"}};
  ASSERT_TRUE(store().adopt_expectations(self_, first));
  const auto before = store().known_expectations().value();
  ASSERT_THAT(before, SizeIs(2));
  EXPECT_EQ(before[0].name, "a");
  EXPECT_EQ(before[0].definition, "every day");
  EXPECT_EQ(before[1].name, "b");
  database().set_time("expectations", "since", at("2026-01-01T00:00:00Z"), "true");
  const std::vector<ExpectationDefinition> second{{"a", "every day"}, {"b", "every two hours"}};
  ASSERT_TRUE(open()->adopt_expectations(self_, second));
  const auto after = store().known_expectations().value();
  ASSERT_THAT(after, SizeIs(2));
  EXPECT_EQ(after[0].since, at("2026-01-01T00:00:00Z")) << "the same as before";
  EXPECT_GE(after[1].since, before[1].since) << "another one";
  EXPECT_EQ(after[1].definition, "every two hours");
  EXPECT_TRUE(store().adopt_expectations(self_, {}));
}

TEST_P(StoreFindings, WhatNobodyExpectsAnyMoreIsEnded) {
  const std::vector<ExpectationDefinition> both{{"kept", "x"}, {"left", "x"}};
  ASSERT_TRUE(store().adopt_expectations(self_, both));
  ASSERT_TRUE(
      store().open_findings(self_, std::vector<NewFinding>{missed("kept"), missed("left"), missed("unknown")}));
  database().set_time("expectations", "judged_at", at("2026-01-01T00:00:00Z"), "name = 'left'");
  EXPECT_EQ(store().end_abandoned_findings(1h).value(), 2U);
  EXPECT_EQ(store().end_abandoned_findings(1h).value(), 0U);
  const auto open_ones = findings_of(store());
  ASSERT_THAT(open_ones, SizeIs(1));
  EXPECT_EQ(open_ones[0].expectation, "kept");
  EXPECT_EQ(findings_of(store(), {.open = false, .expectation = "left"})[0].ended_by, "changed");
}

TEST_P(StoreFindings, WhatAnotherJudgesOtherwiseIsLeftToIt) {
  const RecorderSelf other{"recorder-2", "incarnation-2", "host-2", "0.1.0"};
  const std::vector<ExpectationDefinition> mine{{"a", "every day"}};
  const std::vector<ExpectationDefinition> theirs{{"a", "every hour"}};
  ASSERT_TRUE(store().adopt_expectations(self_, mine));
  ASSERT_TRUE(store().adopt_expectations(other, theirs));
  EXPECT_EQ(store().known_expectations().value()[0].definition, "every day");
  ASSERT_TRUE(store().adopt_expectations(other, mine)) << "the same may be judged by anybody";
  ASSERT_TRUE(store().adopt_expectations(other, theirs));
  EXPECT_EQ(store().known_expectations().value()[0].definition, "every hour") << "who judged it last may change it";
  database().set_time("expectations", "judged_at", at("2026-01-01T00:00:00Z"), "true");
  ASSERT_TRUE(store().adopt_expectations(self_, mine));
  EXPECT_EQ(store().known_expectations().value()[0].definition, "every day") << "nobody judges it any more";
}

TEST_P(StoreFindings, TheLastStartOfEachCouncilIsRead) {
  store_run(started("nightly", "n1", "2026-01-01T03:00:00Z", Status::kFailed, "2026-01-01T03:01:00Z"));
  store_run(started("nightly", "n2", "2026-01-02T03:00:00Z"));
  store_run(started("nightly", "n0", nullptr, Status::kQueued));
  store_run(started("DOM\\job", "d1", "2026-01-03T03:00:00Z"));
  store_run(started("weekly", "w1", "2026-01-04T03:00:00Z"));
  store_run(started("waits", "q1", nullptr, Status::kQueued));
  EXPECT_THAT(last_ids(store(), {"nightly", "DOM\\job", "Nightly", "waits", "x"}), UnorderedElementsAre("n2", "d1"));
  const auto nightly = store().last_starts(std::vector<std::string>{"nightly"}).value();
  ASSERT_THAT(nightly, SizeIs(1));
  EXPECT_EQ(nightly[0].started_at, at("2026-01-02T03:00:00Z"));
  EXPECT_EQ(nightly[0].council, "nightly");
  EXPECT_THAT(store().council_names(10).value(), UnorderedElementsAre("nightly", "DOM\\job", "weekly", "waits"));
  EXPECT_THAT(store().council_names(2).value(), SizeIs(2));
}

TEST_P(StoreFindings, OfNoRunsNoneStartedLast) {
  EXPECT_THAT(last_ids(store(), {"nightly"}), IsEmpty());
  EXPECT_THAT(last_ids(store(), {}), IsEmpty());
  EXPECT_THAT(store().council_names(10).value(), IsEmpty());
}

TEST_P(StoreFindings, AStartAheadOfTheClockCountsAsWhenItWasWritten) {
  store_run(started("nightly", "n1", "2926-01-01T03:00:00Z"));
  const auto last = store().last_starts(std::vector<std::string>{"nightly"}).value();
  ASSERT_THAT(last, SizeIs(1));
  EXPECT_LE(last[0].started_at, now());
}

TEST_P(StoreFindings, RunningRowsThatStartedLongAgoAreReadInOrder) {
  for (const char* id : {"c", "a", "b"}) store_run(started("nightly", id, "2026-01-01T03:00:00Z"));
  store_run(started("nightly", "later", "2026-01-01T03:00:01Z"));
  store_run(started("nightly", "never", nullptr));
  store_run(started("nightly", "over", "2026-01-01T03:00:00Z", Status::kCompleted, "2026-01-01T03:00:00Z"));
  const Timestamp until = at("2026-01-01T03:00:00Z");
  EXPECT_THAT(ids_of(store().long_running(until, "", 10).value()), ElementsAre("a", "b", "c"));
  EXPECT_THAT(ids_of(store().long_running(until, "a", 1).value()), ElementsAre("b"));
  EXPECT_EQ(store().long_running(until, "", 1).value()[0].run.started_at, until);
}

TEST_P(StoreFindings, DurationsAreOfTheNewestCompletedRuns) {
  store_run(started("nightly", "n1", "2026-01-01T03:00:00Z", Status::kCompleted, "2026-01-01T03:20:00Z"));
  store_run(started("nightly", "n2", "2026-01-02T03:00:00Z", Status::kCompleted, "2026-01-02T03:00:01.5Z"));
  store_run(started("nightly", "n3", "2026-01-02T03:00:00Z", Status::kFailed, "2026-01-02T04:00:00Z"));
  store_run(started("other", "o1", "2026-01-02T03:00:00Z", Status::kCompleted, "2026-01-02T04:00:00Z"));
  database().set_time("runs", "inserted_at", at("2026-01-01T00:00:00Z"), "run_id = 'n1'");
  EXPECT_THAT(store().durations("nightly", 100).value(), UnorderedElementsAre(1'200'000ms, 1'500ms));
  EXPECT_THAT(store().durations("nightly", 1).value(), ElementsAre(1'500ms));
  EXPECT_THAT(store().durations("none", 100).value(), IsEmpty());
}

TEST_P(StoreFindings, AFindingIsOpenedOnceAndReadAsItWasFound) {
  const std::vector<NewFinding> both{missed("nightly"), overlong("nightly", "r1")};
  const Timestamp before = now();
  EXPECT_THAT(store().open_findings(self_, both).value(), ElementsAre(true, true));
  const std::vector<NewFinding> again{overlong("nightly", "r1"), overlong("nightly", "r2"), missed("nightly")};
  EXPECT_THAT(open()->open_findings(self_, again).value(), ElementsAre(false, true, false));
  const auto found = findings_of(store());
  ASSERT_THAT(found, SizeIs(3));
  EXPECT_EQ(found[0].run_id, "r2") << "the newest first";
  EXPECT_EQ(found[1].kind, FindingKind::kOverlong);
  EXPECT_EQ(found[1].allowed, std::chrono::milliseconds(90min));
  EXPECT_EQ(found[1].council, "nightly");
  const Finding& first = found[2];
  EXPECT_EQ(first.kind, FindingKind::kMissed);
  EXPECT_EQ(first.expectation, "nightly");
  EXPECT_EQ(first.due_at, at("2026-01-01T03:00:00Z"));
  EXPECT_EQ(first.allowed, std::nullopt);
  EXPECT_EQ(first.recorder, self_.id);
  EXPECT_EQ(first.ended_at, std::nullopt);
  EXPECT_GE(first.opened_at, before);
  EXPECT_LE(first.opened_at, now());
}

TEST_P(StoreFindings, AFindingThatEndedMayBeOpenedAgain) {
  ASSERT_TRUE(store().open_findings(self_, std::vector<NewFinding>{missed("nightly"), missed("weekly")}));
  const auto open_ones = findings_of(store());
  const std::vector<FindingEnd> ends{{open_ones[1].id, "n7"}, {987'654, "n7"}};
  EXPECT_THAT(store().end_findings(ends).value(), ElementsAre(true, false));
  EXPECT_THAT(store().end_findings(ends).value(), ElementsAre(false, false));
  EXPECT_THAT(findings_of(store()), SizeIs(1));
  EXPECT_THAT(store().open_findings(self_, std::vector<NewFinding>{missed("nightly")}).value(), ElementsAre(true));
  const auto all = findings_of(store(), {.open = false, .expectation = "nightly"});
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_EQ(all[1].ended_by, "n7");
  EXPECT_TRUE(all[1].ended_at);
  EXPECT_FALSE(all[0].ended_at);
}

TEST_P(StoreFindings, FindingsAreListedByPagesAndFilters) {
  std::vector<NewFinding> many{missed("nightly")};
  for (int i = 0; i < 5; ++i) many.push_back(overlong("nightly", "r" + std::to_string(i)));
  ASSERT_TRUE(store().open_findings(self_, many));
  std::vector<std::string> seen;
  std::string cursor;
  do {
    const auto page = store().list_findings({.kind = FindingKind::kOverlong}, 2, cursor).value();
    for (const Finding& finding : page.findings) seen.push_back(finding.run_id);
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_THAT(seen, SizeIs(5));
  EXPECT_THAT(findings_of(store(), {.kind = FindingKind::kMissed}), SizeIs(1));
  EXPECT_THAT(findings_of(store(), {.expectation = "weekly"}), IsEmpty());
  EXPECT_EQ(store().list_findings({}, 2, "x").error().kind, ErrorKind::kInvalid);
}

TEST_P(StoreFindings, OldFindingsAreForgottenOnceTheyEnded) {
  ASSERT_TRUE(store().open_findings(self_, std::vector<NewFinding>{missed("a"), missed("b"), missed("c")}));
  const auto open_ones = findings_of(store());
  ASSERT_TRUE(store().end_findings(std::vector<FindingEnd>{{open_ones[0].id, ""}, {open_ones[1].id, ""}}));
  database().set_time("findings", "opened_at", at("2020-01-01T00:00:00Z"), "true");
  EXPECT_EQ(store().forget_findings(24h, 10).value(), 0U);
  database().set_time("findings", "ended_at", at("2026-01-01T00:00:00Z"), "ended_at IS NOT NULL");
  EXPECT_EQ(store().forget_findings(24h, 1).value(), 1U);
  EXPECT_EQ(store().forget_findings(24h, 10).value(), 1U);
  EXPECT_THAT(findings_of(store(), {.open = false}), SizeIs(1));
}

}  // namespace run_recorder::testing
