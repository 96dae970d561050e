// Which chains go, decided from rows as the database would give them.
#include "retention/prune_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const RetentionPolicy kTenDays{.keep = 240h};

AgedRow aged(std::string run_id, std::chrono::milliseconds age = 241h, Status status = Status::kCompleted) {
  return {.run_id = std::move(run_id), .council = "c", .status = status, .last_seq = 3, .age = age};
}
AgedRow linked(std::string run_id, std::chrono::milliseconds age = 241h, Status status = Status::kCompleted) {
  AgedRow row = aged(std::move(run_id), age, status);
  row.linked = true;
  return row;
}

std::vector<std::string> runs_of(const std::optional<PrunePlan::Group>& group) {
  std::vector<std::string> runs;
  if (!group) return runs;
  for (const auto& chain : group->chains) {
    for (const AgedRow& row : chain) runs.push_back(row.run_id);
  }
  return runs;
}

TEST(PrunePlan, ARunByItselfGoesWhenItsTimeIsOver) {
  PrunePlan plan({}, kTenDays);
  EXPECT_EQ(plan.shortest(), 240h);
  EXPECT_FALSE(plan.examine(aged("old")));
  EXPECT_FALSE(plan.examine(aged("young", 239h)));
  EXPECT_FALSE(plan.examine(aged("running", 241h, Status::kRunning)));
  EXPECT_THAT(runs_of(plan.take_group(true)), ElementsAre("old"));
  EXPECT_FALSE(plan.take_group(true));
  EXPECT_EQ(plan.report().examined, 3U);
  EXPECT_EQ(plan.report().kept, 0U);
}

TEST(PrunePlan, ARunWithADeadLetterStays) {
  PrunePlan plan({}, kTenDays);
  AgedRow row = aged("r");
  row.dead_letter = true;
  EXPECT_FALSE(plan.examine(row));
  EXPECT_FALSE(plan.take_group(true));
  EXPECT_EQ(plan.report().kept, 1U);
}

TEST(PrunePlan, AChainGoesAsAWhole) {
  PrunePlan plan({}, kTenDays);
  const std::vector<AgedRow> chain{linked("root"), linked("child")};
  ASSERT_TRUE(plan.examine(chain[0]));
  plan.examine_chain(chain[0], chain);
  EXPECT_FALSE(plan.examine(chain[1])) << "it was judged with its chain";
  EXPECT_THAT(runs_of(plan.take_group(true)), ElementsAre("root", "child"));
}

TEST(PrunePlan, AChainStaysWhereOneOfItsRunsDoes) {
  AgedRow letter = linked("letter");
  letter.dead_letter = true;
  for (const AgedRow& other : {linked("young", 1h), linked("running", 241h, Status::kRunning), letter}) {
    PrunePlan plan({}, kTenDays);
    ASSERT_TRUE(plan.examine(linked("root")));
    plan.examine_chain(linked("root"), {linked("root"), other, linked("leaf")});
    EXPECT_FALSE(plan.examine(linked("leaf")));
    EXPECT_FALSE(plan.take_group(true)) << other.run_id;
    EXPECT_EQ(plan.report().kept, 2U) << other.run_id;
  }
}

TEST(PrunePlan, AChainStaysWhereOneOfItsRunsIsNotAskedFor) {
  PrunePlan plan({.statuses = {Status::kFailed}, .council = "c"}, kTenDays);
  ASSERT_TRUE(plan.examine(linked("root", 241h, Status::kFailed)));
  plan.examine_chain(linked("root", 241h, Status::kFailed), {linked("root", 241h, Status::kFailed), linked("child")});
  AgedRow elsewhere = aged("elsewhere", 241h, Status::kFailed);
  elsewhere.council = "d";
  EXPECT_FALSE(plan.examine(elsewhere));
  EXPECT_FALSE(plan.take_group(true));
  EXPECT_EQ(plan.report().kept, 1U) << "what is not asked for is not counted";
}

TEST(PrunePlan, AChainThatIsTooLongOrGoneStays) {
  PrunePlan plan({}, kTenDays);
  ASSERT_TRUE(plan.examine(linked("root")));
  plan.examine_chain(linked("root"), std::vector<AgedRow>(PrunePlan::kLongestChain + 1, linked("root")));
  ASSERT_TRUE(plan.examine(linked("gone")));
  plan.examine_chain(linked("gone"), {});
  EXPECT_FALSE(plan.take_group(true));
  EXPECT_EQ(plan.report().kept, 2U);
}

TEST(PrunePlan, TakesTheRequestsAgeInsteadOfThePolicys) {
  PrunePlan plan({.older_than = 1h}, RetentionPolicy{.keep = 0ms, .councils = {{"c", 0ms}}});
  EXPECT_EQ(plan.shortest(), 1h);
  plan.examine(aged("r", 2h));
  EXPECT_THAT(runs_of(plan.take_group(true)), ElementsAre("r"));
}

TEST(PrunePlan, ADryRunCountsAndRemovesNothing) {
  PrunePlan plan({.dry_run = true}, kTenDays);
  plan.examine(aged("r"));
  plan.examine(linked("root"));
  plan.examine_chain(linked("root"), {linked("root"), linked("child")});
  plan.examine(linked("child"));
  EXPECT_FALSE(plan.take_group(true));
  EXPECT_EQ(plan.report().runs, 3U);
  EXPECT_EQ(plan.report().events, 9U);
}

TEST(PrunePlan, AGroupIsBoundedBeyondItsFirstChain) {
  PrunePlan plan({}, kTenDays);
  std::vector<AgedRow> large;
  for (std::size_t i = 0; i <= PrunePlan::kRunsAtOnce; ++i) large.push_back(linked("l" + std::to_string(i)));
  plan.examine(large[0]);
  plan.examine_chain(large[0], large);
  EXPECT_FALSE(plan.take_group(false)) << "it may still be the last";
  plan.examine(aged("a"));
  EXPECT_THAT(plan.take_group(false)->chains, ElementsAre(SizeIs(large.size())));
  AgedRow talkative = aged("b");
  talkative.last_seq = static_cast<std::int64_t>(PrunePlan::kEventsAtOnce);
  plan.examine(talkative);
  EXPECT_THAT(runs_of(plan.take_group(false)), ElementsAre("a"));
  EXPECT_THAT(runs_of(plan.take_group(true)), ElementsAre("b"));
  EXPECT_THAT(runs_of(plan.take_group(true)), IsEmpty());
}

TEST(PrunePlan, SaysByWhichRuleRunsGo) {
  const RetentionPolicy policy{.keep = 240h, .failed = 0h, .councils = {{"a", 1h}, {"b", 2h}}};
  EXPECT_EQ(rule_in_words({}, policy), "keep=10d failed=0s councils=2");
  EXPECT_EQ(rule_in_words({.statuses = {Status::kFailed, Status::kStuck}, .council = "x", .older_than = 48h}, policy),
            "older_than=2d status=failed,stuck council=x");
}

TEST(PrunePlan, CountsWhatTheStoreRemoved) {
  PrunePlan plan({}, kTenDays);
  plan.examine(aged("a"));
  plan.examine(aged("b"));
  const auto group = plan.take_group(true);
  ASSERT_TRUE(group);
  plan.removed(*group, {.runs = 1, .events = 3});
  EXPECT_EQ(plan.report().runs, 1U);
  EXPECT_EQ(plan.report().events, 3U);
  EXPECT_EQ(plan.report().kept, 1U) << "it moved meanwhile";
}

}  // namespace
}  // namespace run_recorder
