#include "recorder/spool_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace run_recorder {
namespace {

// Two earlier incarnations and the current one: 1 to 10, 11 to 15, 16 and on. Records from 8 on are kept.
class SpoolProgressTest : public ::testing::Test {
 protected:
  static std::vector<Incarnation> incarnations() { return {{"a", 1}, {"b", 11}, {"c", 16}}; }

  SpoolProgress make(std::uint64_t first_kept) {
    return {incarnations(), first_kept, [this] { return newest_; }};
  }
  static Checkpoint checkpoint(std::uint64_t applied, const std::map<std::string, std::uint64_t>& positions) {
    Checkpoint checkpoint;
    checkpoint.ledger.applied = applied;
    checkpoint.applied = positions;
    return checkpoint;
  }
  // Everything up to there is committed, as the recorder does it.
  static void commit_next(SpoolProgress& progress, std::uint64_t to) {
    const SpoolProgress::Part part = progress.next_part();
    BatchWrite write = progress.next_write(part.range);
    write.to = to;
    write.ledger.applied += to - part.from;
    progress.committed(part.range, to, write.ledger);
  }

  std::uint64_t newest_ = 20;
  SpoolProgress progress_ = make(8);
};

std::vector<std::string> ids_of(const std::vector<Incarnation>& incarnations) {
  std::vector<std::string> ids;
  for (const Incarnation& one : incarnations) ids.push_back(one.id);
  return ids;
}

TEST(KnownIncarnations, AreThoseOnDiskAndThoseRemembered) {
  const auto known = known_incarnations({{"b", 12}, {"c", 16}}, {{"a", 1}, {"b", 11}});
  EXPECT_THAT(ids_of(known), ::testing::ElementsAre("a", "b", "c"));
  EXPECT_EQ(known[1].first_seq, 11U) << "where a segment is missing, what is remembered is the true beginning";
}

TEST(KnownIncarnations, LeaveOutWhatWroteNothing) {
  const auto known = known_incarnations({{"c", 16}}, {{"a", 1}, {"idle", 11}, {"b", 11}, {"late", 16}});
  EXPECT_THAT(ids_of(known), ::testing::ElementsAre("a", "b", "c"));
}

TEST_F(SpoolProgressTest, BeginsWithWhatIsKept) {
  EXPECT_EQ(progress_.next_seq(), 8U);
  EXPECT_EQ(progress_.waiting(), 13U);
  newest_ = 25;
  EXPECT_EQ(progress_.waiting(), 18U);
}

TEST_F(SpoolProgressTest, GoesOnInTheNextRangeWhereOneIsDone) {
  commit_next(progress_, 10);
  EXPECT_EQ(progress_.next_part().range, 1U);
  EXPECT_EQ(progress_.next_part().from, 10U);
  EXPECT_EQ(progress_.next_part().last, 15U);
  commit_next(progress_, 15);
  commit_next(progress_, 20);
  EXPECT_EQ(progress_.waiting(), 0U);
  EXPECT_EQ(progress_.next_seq(), 21U);
  const SpoolProgress::Part nothing = progress_.next_part();
  EXPECT_EQ(nothing.from, nothing.last);
}

TEST_F(SpoolProgressTest, PlansBehindTheCommitUnderWay) {
  BatchWrite write = progress_.next_write(0);
  EXPECT_EQ(write.incarnation, "a");
  EXPECT_EQ(write.from, 0U) << "the database has no position yet";
  write.to = 9;
  write.ledger.applied = 2;
  progress_.plan(0, write);
  EXPECT_EQ(progress_.next_part().from, 9U);
  EXPECT_EQ(progress_.next_write(0).from, 9U);
  EXPECT_EQ(progress_.next_write(0).ledger.applied, 2U);
  EXPECT_EQ(progress_.next_write(1).from, 0U) << "each incarnation has a position of its own";
  EXPECT_EQ(progress_.next_write(1).ledger.applied, 2U);
  EXPECT_EQ(progress_.next_seq(), 8U) << "what is planned is not done";
  progress_.committed(0, 9, write.ledger);
  EXPECT_EQ(progress_.next_seq(), 10U);
  EXPECT_EQ(progress_.ledger().applied, 2U);
}

TEST_F(SpoolProgressTest, ForgetsAPlanThatFailed) {
  BatchWrite write = progress_.next_write(0);
  write.to = 10;
  write.ledger.applied = 3;
  progress_.plan(0, write);
  progress_.abandon();
  EXPECT_EQ(progress_.next_part().range, 0U);
  EXPECT_EQ(progress_.next_part().from, 7U);
  EXPECT_EQ(progress_.next_write(0).ledger.applied, 0U);
}

TEST_F(SpoolProgressTest, AdoptsWhereTheDatabaseIsAlsoBackwards) {
  commit_next(progress_, 10);
  commit_next(progress_, 15);
  const Checkpoint before = checkpoint(10, {{"a", 10}});
  EXPECT_FALSE(progress_.matches(before));
  progress_.adopt(before);
  progress_.keep_from(8);
  EXPECT_TRUE(progress_.matches(before));
  EXPECT_EQ(progress_.next_seq(), 11U);
  EXPECT_EQ(progress_.ledger().applied, 10U);
}

TEST_F(SpoolProgressTest, AppliesNothingAgainThatAnotherCopyOfTheSpoolApplied) {
  progress_.adopt(checkpoint(19, {{"a", 10}, {"b", 19}}));
  progress_.keep_from(8);
  EXPECT_EQ(progress_.next_part().range, 2U);
  EXPECT_EQ(progress_.next_seq(), 16U);
}

TEST_F(SpoolProgressTest, CountsEventsThatSpoolAndDatabaseForgotAsApplied) {
  progress_.adopt(checkpoint(3, {{"a", 3}}));
  progress_.keep_from(13);
  auto write = progress_.next_forgotten();
  ASSERT_TRUE(write);
  EXPECT_EQ(write->incarnation, "a");
  EXPECT_EQ(write->from, 3U);
  EXPECT_EQ(write->to, 10U);
  EXPECT_EQ(write->ledger.applied, 10U);
  EXPECT_EQ(progress_.forgotten(*write), 7U);
  write = progress_.next_forgotten();
  ASSERT_TRUE(write);
  EXPECT_EQ(write->incarnation, "b");
  EXPECT_EQ(progress_.forgotten(*write), 2U) << "11 and 12";
  EXPECT_FALSE(progress_.next_forgotten());
  EXPECT_EQ(progress_.ledger().applied, 12U);
  EXPECT_EQ(progress_.next_seq(), 13U);
}

TEST_F(SpoolProgressTest, LeavesTheRestOfARangeToTheOriginal) {
  progress_.leave_rest(0);
  EXPECT_EQ(progress_.next_seq(), 11U);
  EXPECT_EQ(progress_.waiting(), 10U);
}

TEST_F(SpoolProgressTest, PlacesTheLedgerAtTheNewestPosition) {
  EXPECT_EQ(progress_.place().incarnation, "c");
  EXPECT_EQ(progress_.place().to, 0U);
  commit_next(progress_, 10);
  commit_next(progress_, 12);
  const BatchWrite place = progress_.place();
  EXPECT_EQ(place.incarnation, "b");
  EXPECT_EQ(place.from, 12U);
  EXPECT_EQ(place.to, 12U);
  EXPECT_EQ(place.ledger, progress_.ledger());
}

TEST_F(SpoolProgressTest, KnowsItsPlaceFromTheHint) {
  commit_next(progress_, 10);
  commit_next(progress_, 12);
  SpoolProgress later = make(8);
  later.load_hint(progress_.hint("me"), "me", "origin");
  EXPECT_EQ(later.next_seq(), 13U);
  EXPECT_EQ(later.ledger(), progress_.ledger());
  SpoolProgress other = make(8);
  other.load_hint(progress_.hint("me"), "renewed", "origin");
  EXPECT_EQ(other.next_seq(), 13U);
  EXPECT_EQ(other.ledger(), Ledger()) << "the ledger is the other id's";
}

TEST_F(SpoolProgressTest, IgnoresAMalformedHint) {
  for (const char* hint : {"", "[]", "{", "{}", R"({"ledger": {}})", R"({"ledger": {}, "positions": 3})"}) {
    progress_.load_hint(hint, "me", "me");
    EXPECT_EQ(progress_.next_seq(), 8U) << hint;
  }
}

TEST_F(SpoolProgressTest, KeepsAHintWithinWhatTheSpoolHas) {
  progress_.load_hint(R"({"recorder": "x", "ledger": {}, "positions": {"a": 2, "b": 99}})", "me", "me");
  EXPECT_EQ(progress_.next_seq(), 8U);
  EXPECT_EQ(progress_.waiting(), 8U) << "8 to 10 and 16 to 20";
}

}  // namespace
}  // namespace run_recorder
