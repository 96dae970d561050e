// What the runs of each council came to, within bounds.
#include "recorder/council_counts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using Row = run_recorder::Run;

const Timestamp kNow = parse_rfc3339("2026-03-01T12:00:00Z").value();

struct Life {
  bool started = false;
  bool ended = false;
};

RunChange change(std::string council, Status status, Life life = {}) {
  RunChange made;
  made.after.council = std::move(council);
  made.after.status = status;
  made.after.started_at = kNow - 90s;
  if (life.ended) made.after.finalized_at = kNow - 30s;
  made.started = life.started;
  made.ended = life.ended;
  return made;
}

std::vector<std::string> names_of(const std::vector<CouncilTotals>& totals) {
  std::vector<std::string> names;
  for (const CouncilTotals& council : totals) names.push_back(council.council);
  return names;
}

TEST(CouncilCounts, CountsStartsAndEndsByOutcome) {
  CouncilCounts counts;
  const std::vector<RunChange> changes{change("a", Status::kRunning, {.started = true}),
                                       change("a", Status::kCompleted, {.started = true, .ended = true}),
                                       change("a", Status::kFailed, {.ended = true}),
                                       change("a", Status::kCancelled, {.ended = true}),
                                       change("b", Status::kStuck, {.ended = true}),
                                       change("b", Status::kRunning)};
  counts.committed(changes, kNow);
  counts.marked_stuck("b");
  const auto totals = counts.totals();
  ASSERT_THAT(names_of(totals), ElementsAre("a", "b"));
  EXPECT_EQ(totals[0].starts, 2U);
  EXPECT_THAT(totals[0].ends, ElementsAre(1, 1, 1, 0));
  EXPECT_EQ(totals[1].starts, 0U);
  EXPECT_THAT(totals[1].ends, ElementsAre(0, 0, 0, 2));
}

TEST(CouncilCounts, KnowsACouncilFromItsFirstRowOn) {
  CouncilCounts counts;
  RunChange queued = change("a", Status::kQueued);
  queued.insert = true;
  counts.committed({&queued, 1}, kNow);
  ASSERT_THAT(names_of(counts.totals()), ElementsAre("a"));
  EXPECT_THAT(counts.totals()[0].ends, ElementsAre(0, 0, 0, 0));
  EXPECT_FALSE(counts.totals()[0].last_start);
}

TEST(CouncilCounts, MeasuresRunsThatCompletedOrFailed) {
  CouncilCounts counts;
  std::vector<RunChange> changes;
  for (const Status status : terminal_statuses()) changes.push_back(change("a", status, {.ended = true}));
  changes.push_back(change("a", Status::kCompleted, {.ended = true}));
  changes.back().after.started_at.reset();  // nobody said when it began
  changes.push_back(change("a", Status::kFailed, {.ended = true}));
  changes.back().after.started_at = kNow + 1h;  // after its end
  counts.committed(changes, kNow);
  const CouncilTotals totals = counts.totals()[0];
  EXPECT_THAT(totals.durations, ElementsAre(1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)) << "60 s is within 60 s";
  EXPECT_EQ(totals.duration_sum, 2min);
}

TEST(CouncilCounts, KeepsTheLatestStartAndSuccess) {
  CouncilCounts counts;
  RunChange run = change("a", Status::kCompleted, {.started = true, .ended = true});
  counts.committed({&run, 1}, kNow);
  EXPECT_EQ(counts.totals()[0].last_start, kNow - 90s);
  EXPECT_EQ(counts.totals()[0].last_success, kNow - 30s);
  run.after.started_at = kNow - 1h;
  run.after.finalized_at = kNow - 50min;
  counts.committed({&run, 1}, kNow);
  EXPECT_EQ(counts.totals()[0].last_start, kNow - 90s) << "one that is recorded late";
  RunChange failed = change("a", Status::kFailed, {.ended = true});
  failed.after.finalized_at = kNow;
  counts.committed({&failed, 1}, kNow);
  EXPECT_EQ(counts.totals()[0].last_success, kNow - 30s);
  run.after.finalized_at = kNow + 24h;
  counts.committed({&run, 1}, kNow);
  EXPECT_EQ(counts.totals()[0].last_success, kNow) << "a sender's clock that is ahead silences no alert";
}

TEST(CouncilCounts, TakesTheLatestOfWhatWasReadAndWhatItSaw) {
  CouncilCounts counts;
  const RecentCouncil older{"a", kNow - 2h, kNow - 1h};
  const RecentCouncil newer{"a", kNow - 10s, kNow - 5s};
  const RecentCouncil failing{"b", kNow + 1h, {}};
  RunChange run = change("a", Status::kCompleted, {.started = true, .ended = true});
  counts.read(std::array{older, failing}, kNow);
  EXPECT_EQ(counts.totals()[0].last_success, kNow - 1h);
  EXPECT_EQ(counts.totals()[1].last_start, kNow);
  EXPECT_FALSE(counts.totals()[1].last_success);
  counts.committed({&run, 1}, kNow);
  counts.read({&older, 1}, kNow);
  EXPECT_EQ(counts.totals()[0].last_success, kNow - 30s);
  counts.read({&newer, 1}, kNow);
  EXPECT_EQ(counts.totals()[0].last_start, kNow - 10s);
  EXPECT_EQ(counts.totals()[0].last_success, kNow - 5s) << "another daemon's";
  EXPECT_EQ(counts.totals()[0].starts, 1U) << "read is not counted";
}

TEST(CouncilCounts, SaysHowManyRunAsLastCounted) {
  CouncilCounts counts;
  counts.marked_stuck("a");
  counts.marked_stuck("b");
  EXPECT_FALSE(counts.totals()[0].running);
  counts.counted({{{"a", 3}, {"b", 1}, {"theirs", 4}}, 0});
  ASSERT_THAT(names_of(counts.totals()), ElementsAre("a", "b", "other")) << "theirs has no name here";
  EXPECT_EQ(counts.totals()[2].running, 4U);
  EXPECT_EQ(counts.totals()[0].running, 3U);
  EXPECT_EQ(counts.totals()[1].running, 1U);
  counts.counted({{{"b", 2}}, 5});
  counts.marked_stuck("c");
  const auto totals = counts.totals();
  ASSERT_THAT(names_of(totals), ElementsAre("a", "b", "c", "other"));
  EXPECT_EQ(totals[0].running, 0U);
  EXPECT_EQ(totals[1].running, 2U);
  EXPECT_EQ(totals[2].running, 0U) << "none was there when they were counted";
  EXPECT_EQ(totals[3].running, 5U);
}

TEST(CouncilCounts, CountsWhatHasNoRoomTogether) {
  CouncilCounts counts;
  for (std::size_t i = 0; i + 1 < CouncilCounts::kCouncils; ++i) counts.marked_stuck(fmt::format("c{:02}", i));
  EXPECT_EQ(counts.totals().size(), CouncilCounts::kCouncils - 1) << "the others are not named before they count";
  counts.marked_stuck("last");
  ASSERT_EQ(counts.totals().size(), CouncilCounts::kCouncils + 1) << "the next name may be none of its own";
  const RecentCouncil recent{"one too many", kNow - 2h, kNow - 1h};
  counts.read({&recent, 1}, kNow);
  counts.marked_stuck("another one");
  counts.marked_stuck("one too many");
  counts.marked_stuck("c00");
  const auto totals = counts.totals();
  ASSERT_EQ(totals.size(), CouncilCounts::kCouncils + 1);
  EXPECT_THAT(totals[0].ends, ElementsAre(0, 0, 0, 2));
  EXPECT_EQ(totals.back().council, "other");
  EXPECT_THAT(totals.back().ends, ElementsAre(0, 0, 0, 2));
  EXPECT_FALSE(totals.back().last_start || totals.back().last_success) << "of many councils they say nothing";
}

TEST(CouncilCounts, GivesNoNameThatIsNoLabelAndNoneTwice) {
  CouncilCounts counts;
  for (const std::string name : {"other", "", "\xff", "caf\xc3"}) counts.marked_stuck(name);
  counts.marked_stuck(std::string(256, 'x'));
  counts.marked_stuck("caf\xc3\xa9");
  const auto totals = counts.totals();
  ASSERT_THAT(names_of(totals), ElementsAre("caf\xc3\xa9", "other"));
  EXPECT_THAT(totals[1].ends, ElementsAre(0, 0, 0, 5));
}

}  // namespace
}  // namespace run_recorder::testing
