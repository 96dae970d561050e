// What is found of expectations, by the clock of a database that the tests hold.
#include "expect/judgement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Timestamp at(const char* text) {
  return parse_rfc3339(text).value();
}

Expectation nightly() {
  Expectation expectation;
  expectation.council = "nightly*";
  expectation.cron = "0 3 * * *";
  return expectation;
}
Expectation every(std::chrono::milliseconds time) {
  Expectation expectation;
  expectation.council = "poll";
  expectation.every = time;
  return expectation;
}
Expectation at_most(std::chrono::milliseconds time, std::string council = "backup") {
  Expectation expectation;
  expectation.council = std::move(council);
  expectation.max_duration = time;
  return expectation;
}

// One expectation named "it", with what the database has of it.
struct Look {
  ExpectedRuns expected;
  ExpectationViews seen;

  Look(const Expectation& expectation, const char* since, const char* last_start, const char* now)
      : expected(ExpectPolicy{.named = {{"it", expectation}}}) {
    std::optional<StartedRun> last;
    if (last_start) last = StartedRun{"run-7", "nightly", at(last_start)};
    seen.now = at(now);
    seen.views.push_back(view_of(expected.all().at(0), at(since), last, seen.now));
    seen.views[0].adopted = true;
  }
  Look& open_since(const char* due) {
    Finding finding;
    finding.id = 11;
    finding.kind = FindingKind::kMissed;
    finding.expectation = "it";
    finding.due_at = at(due);
    seen.open.push_back(finding);
    seen.views[0].missed = true;
    return *this;
  }
  std::string state() const { return std::string(state_of(seen.views.at(0))); }
  FoundChanges judged() const { return judge_starts(expected, seen); }
};

RunningRow running(std::string run_id, std::string council, const char* started_at) {
  RunningRow row;
  row.run.run_id = std::move(run_id);
  row.run.council = std::move(council);
  row.run.status = Status::kRunning;
  if (started_at) row.run.started_at = at(started_at);
  return row;
}

std::optional<std::chrono::milliseconds> nothing_learned(std::string_view) {
  return std::nullopt;
}

std::vector<std::string> found_in(const std::vector<NewFinding>& findings) {
  std::vector<std::string> found;
  for (const NewFinding& finding : findings) found.push_back(finding.expectation + "/" + finding.run_id);
  return found;
}

}  // namespace

TEST(Starts, ARunThatStartedWhenItWasDueIsInTime) {
  const Look look(nightly(), "2026-01-01T00:00:00Z", "2026-01-05T03:00:02Z", "2026-01-05T12:00:00Z");
  EXPECT_EQ(look.state(), "ok");
  EXPECT_EQ(look.seen.views[0].outlook.due, at("2026-01-06T03:00:00Z"));
  EXPECT_THAT(look.judged().opened, IsEmpty());
}

TEST(Starts, ARunThatStartedAMomentBeforeItWasDueIsThatOne) {
  const Look look(nightly(), "2026-01-01T00:00:00Z", "2026-01-05T02:59:40Z", "2026-01-05T12:00:00Z");
  EXPECT_EQ(look.state(), "ok");
}

TEST(Starts, AStartIsLateUntilTheMarginIsOverAndThenMissed) {
  const auto now = [](const char* time) {
    return Look(nightly(), "2026-01-01T00:00:00Z", "2026-01-04T03:00:00Z", time).state();
  };
  EXPECT_EQ(now("2026-01-05T02:59:59Z"), "ok");
  EXPECT_EQ(now("2026-01-05T03:00:00Z"), "late");
  EXPECT_EQ(now("2026-01-05T03:10:00Z"), "late") << "the margin is ten minutes by default";
  EXPECT_EQ(now("2026-01-05T03:10:01Z"), "late") << "until it is found";
  EXPECT_EQ(Look(nightly(), "2026-01-01T00:00:00Z", nullptr, "2026-01-05T03:10:01Z")
                .open_since("2026-01-01T03:00:00Z")
                .state(),
            "missed");
}

TEST(Starts, AStartByAMinutelyCronIsOneOnly) {
  Expectation minutely = nightly();
  minutely.cron = "* * * * *";
  const auto due = [&](const char* last) {
    return Look(minutely, "2026-01-01T00:00:00Z", last, last).seen.views[0].outlook.due;
  };
  EXPECT_EQ(due("2026-01-05T13:20:28Z"), at("2026-01-05T13:21:00Z"));
  EXPECT_EQ(due("2026-01-05T13:20:31Z"), at("2026-01-05T13:22:00Z")) << "early for the next one";
}

TEST(Starts, TheStartBeforeAMissedOneDoesNotEndIt) {
  for (const auto time : {5s, 60s}) {
    Look look(every(time), "2026-01-01T00:00:00Z", "2026-01-05T03:00:00Z", "2026-01-05T09:00:00Z");
    EXPECT_THAT(look.judged().opened, SizeIs(1));
    look.open_since(time == 5s ? "2026-01-05T03:00:05Z" : "2026-01-05T03:01:00Z");
    EXPECT_THAT(look.judged().ended, IsEmpty());
    EXPECT_THAT(look.judged().opened, IsEmpty());
  }
}

TEST(Starts, WhatAnotherDaemonJudgesIsLeftToIt) {
  Look look(nightly(), "2026-01-01T00:00:00Z", "2026-01-04T03:00:00Z", "2026-01-08T12:00:00Z");
  look.seen.views[0].adopted = false;
  EXPECT_THAT(look.judged().opened, IsEmpty());
  look.open_since("2026-01-09T03:00:00Z");
  EXPECT_THAT(look.judged().ended, IsEmpty());
}

TEST(Starts, WhatIsMissedIsFoundOnceWithWhenItWasDue) {
  Look look(nightly(), "2026-01-01T00:00:00Z", "2026-01-04T03:00:00Z", "2026-01-08T12:00:00Z");
  const auto opened = look.judged().opened;
  ASSERT_THAT(opened, SizeIs(1)) << "of all that fell due meanwhile the first";
  EXPECT_EQ(opened[0].kind, FindingKind::kMissed);
  EXPECT_EQ(opened[0].due_at, at("2026-01-05T03:00:00Z"));
  EXPECT_EQ(opened[0].council, "nightly*");
  EXPECT_EQ(opened[0].run_id, "");
  look.open_since("2026-01-05T03:00:00Z");
  EXPECT_THAT(look.judged().opened, IsEmpty());
  EXPECT_THAT(look.judged().ended, IsEmpty());
}

TEST(Starts, AMissedRunIsOverWhenOneStarts) {
  Look look(nightly(), "2026-01-01T00:00:00Z", "2026-01-05T08:00:00Z", "2026-01-05T08:00:01Z");
  look.open_since("2026-01-05T03:00:00Z");
  const auto changes = look.judged();
  EXPECT_THAT(changes.opened, IsEmpty());
  ASSERT_THAT(changes.ended, SizeIs(1));
  EXPECT_EQ(changes.ended[0].id, 11);
  EXPECT_EQ(changes.ended[0].by, "run-7");
}

TEST(Starts, AMissedRunThatIsExpectedNoMoreIsOver) {
  Look look(nightly(), "2026-01-05T08:00:00Z", "2026-01-04T03:00:00Z", "2026-01-05T08:00:01Z");
  look.open_since("2026-01-05T02:00:00Z");
  const auto changes = look.judged();
  ASSERT_THAT(changes.ended, SizeIs(1));
  EXPECT_EQ(changes.ended[0].by, "changed");
}

TEST(Starts, WhoBeginsToLookReportsNothingOfBefore) {
  const Look first(nightly(), "2026-01-05T12:00:00Z", nullptr, "2026-01-05T12:00:00Z");
  EXPECT_EQ(first.state(), "ok");
  EXPECT_EQ(first.seen.views[0].outlook.due, at("2026-01-06T03:00:00Z"));
  const Look old(nightly(), "2026-01-05T12:00:00Z", "2025-01-01T03:00:00Z", "2026-01-05T12:00:00Z");
  EXPECT_EQ(old.state(), "ok");
}

TEST(Starts, EverySoOftenIsCountedFromTheLastStart) {
  const auto state = [](const char* last, const char* now) {
    return Look(every(1h), "2026-01-01T00:00:00Z", last, now).state();
  };
  EXPECT_EQ(state("2026-01-05T10:00:00Z", "2026-01-05T10:59:59Z"), "ok");
  EXPECT_EQ(state("2026-01-05T10:00:00Z", "2026-01-05T11:05:00Z"), "late");
  EXPECT_THAT(Look(every(1h), "2026-01-01T00:00:00Z", "2026-01-05T10:00:00Z", "2026-01-05T11:10:01Z").judged().opened,
              SizeIs(1));
  EXPECT_EQ(state(nullptr, "2026-01-01T00:59:59Z"), "ok");
  EXPECT_THAT(Look(every(1h), "2026-01-01T00:00:00Z", nullptr, "2026-01-01T01:10:01Z").judged().opened, SizeIs(1));
}

TEST(Starts, OfAnExpectationOfDurationsNoneIsDue) {
  const Look look(at_most(1h), "2026-01-01T00:00:00Z", nullptr, "2027-01-01T00:00:00Z");
  EXPECT_EQ(look.state(), "ok");
  EXPECT_EQ(look.seen.views[0].outlook.due, std::nullopt);
  EXPECT_THAT(look.judged().opened, IsEmpty());
}

TEST(Starts, ASentenceSaysWhy) {
  const Look missed(nightly(), "2026-01-01T00:00:00Z", "2026-01-04T03:00:00Z", "2026-01-05T12:00:00Z");
  EXPECT_EQ(
      why(missed.seen.views[0]),
      "no run started at 2026-01-05 03:00:00 UTC or in the 10m after it; the last one started at 2026-01-04 03:00:00 "
      "UTC (run-7)");
  const Look never(every(1h), "2026-01-01T00:00:00Z", nullptr, "2026-01-01T00:10:00Z");
  EXPECT_EQ(why(never.seen.views[0]), "none has started since 2026-01-01 00:00:00 UTC");
}

TEST(Overlong, ARunThatLastsLongerThanAllowedIsFound) {
  const ExpectedRuns expected(ExpectPolicy{.named = {{"it", at_most(2h)}, {"all", at_most(1h, "*")}}});
  EXPECT_EQ(expected.shortest_max_duration(), 1h);
  const std::vector<RunningRow> rows{running("a", "backup", "2026-01-05T10:00:00Z"),
                                     running("b", "backup", "2026-01-05T10:30:00Z"),
                                     running("c", "other", "2026-01-05T10:00:00Z"),
                                     running("d", "other", "2026-01-05T11:00:00Z"), running("e", "backup", nullptr)};
  const auto found = judge_running(expected, rows, at("2026-01-05T12:00:00.001Z"), nothing_learned);
  EXPECT_THAT(found_in(found), ElementsAre("all/a", "it/a", "all/b", "all/c", "all/d"));
  EXPECT_EQ(found[1].allowed, 2h);
  EXPECT_EQ(found[1].council, "backup");
  EXPECT_THAT(found_in(judge_running(expected, rows, at("2026-01-05T12:00:00Z"), nothing_learned)),
              ElementsAre("all/a", "all/b", "all/c"))
      << "to the moment";
}

TEST(Overlong, WhatIsLearnedCountsWhereNothingIsSaid) {
  const ExpectedRuns expected(ExpectPolicy{.learn = true, .named = {{"it", at_most(2h)}}});
  const std::vector<RunningRow> rows{running("a", "backup", "2026-01-05T10:00:00Z"),
                                     running("b", "other", "2026-01-05T10:00:00Z"),
                                     running("c", "unknown", "2026-01-05T10:00:00Z")};
  const auto learned = [](std::string_view council) -> std::optional<std::chrono::milliseconds> {
    if (council == "unknown") return std::nullopt;
    return 30min;
  };
  const auto found = judge_running(expected, rows, at("2026-01-05T11:00:00Z"), learned);
  EXPECT_THAT(found_in(found), ElementsAre("/b"));
  EXPECT_EQ(found[0].allowed, 30min);
  const ExpectedRuns does_not_learn(ExpectPolicy{.named = {{"it", at_most(2h)}}});
  EXPECT_THAT(judge_running(does_not_learn, rows, at("2026-01-05T11:00:00Z"), learned), IsEmpty());
}

TEST(Overlong, AFindingEndsWithItsRun) {
  const auto finding = [](std::int64_t id, std::string run_id) {
    Finding found;
    found.id = id;
    found.kind = FindingKind::kOverlong;
    found.expectation = "it";
    found.run_id = std::move(run_id);
    return found;
  };
  const std::vector<Finding> open{finding(1, "runs"), finding(2, "failed"), finding(3, "gone"),
                                  finding(4, "changed")};
  const std::vector<NewFinding> found{{FindingKind::kOverlong, "it", "backup", "runs", {}, 1h}};
  const std::map<std::string, Status, std::less<>> status_of{
      {"runs", Status::kRunning}, {"failed", Status::kFailed}, {"changed", Status::kRunning}};
  const auto ended = judge_overlong(open, found, status_of);
  ASSERT_THAT(ended, SizeIs(3));
  EXPECT_EQ(ended[0].id, 2);
  EXPECT_EQ(ended[0].by, "failed");
  EXPECT_EQ(ended[1].by, "removed");
  EXPECT_EQ(ended[2].by, "changed");
}

TEST(Usual, IsWhatManyRunsTook) {
  std::vector<std::chrono::milliseconds> durations;
  for (int i = 1; i < 20; ++i) durations.emplace_back(i * 1min);
  EXPECT_EQ(usual_of(durations), std::nullopt) << "too few";
  for (int i = 20; i <= 100; ++i) durations.emplace_back(i * 1min);
  const auto usual = usual_of(durations);
  ASSERT_TRUE(usual);
  EXPECT_EQ(usual->median, 50min);
  EXPECT_EQ(usual->p95, 95min);
  EXPECT_EQ(usual->p99, 99min);
  EXPECT_EQ(learned_limit(*usual), 4 * 99min);
  EXPECT_EQ(learned_limit({1s, 2s, 3s}), 60s) << "no shorter";
}

TEST(Expected, ADefinitionIsAnotherOneWhenOtherStartsAreExpected) {
  const auto print = [](const Expectation& expectation) {
    return ExpectedRuns(ExpectPolicy{.named = {{"it", expectation}}}).fingerprint();
  };
  Expectation changed = nightly();
  changed.margin = 1h;
  changed.max_duration = 1h;
  EXPECT_EQ(print(changed), print(nightly()));
  changed.timezone = "Europe/Berlin";
  EXPECT_NE(print(changed), print(nightly()));
  EXPECT_TRUE(ExpectedRuns(ExpectPolicy{}).empty());
  EXPECT_FALSE(ExpectedRuns(ExpectPolicy{.learn = true}).empty());
}

}  // namespace run_recorder::testing
