// Whose turn it is to commit, without threads and without waiting.
#include "server/commit_turns.h"

#include "gtest/gtest.h"

namespace run_recorder {
namespace {

using State = CommitTurns::State;
using Task = CommitTurns::Task;
using namespace std::chrono_literals;

class CommitTurnsTest : public testing::Test {
 protected:
  CommitTurns turns;
  CommitTurns::Clock::time_point now{1h};
};

TEST_F(CommitTurnsTest, TheSessionsCommitASmallGroup) {
  turns.submitted(false);
  EXPECT_EQ(turns.task(now, true), Task::kWait);
  EXPECT_TRUE(turns.begin_small(now, true));
  turns.end_small();
  EXPECT_EQ(turns.state(), State::kOpen);
}

TEST_F(CommitTurnsTest, TheWriterCommitsALargeGroupUntilNoneIsLeft) {
  turns.submitted(true);
  EXPECT_FALSE(turns.begin_small(now, true));
  EXPECT_EQ(turns.task(now, true), Task::kCommit);
  turns.taken_all();
  EXPECT_EQ(turns.state(), State::kOpen);
  EXPECT_EQ(turns.task(now, false), Task::kWait);
}

TEST_F(CommitTurnsTest, TheWriterCommitsWhatFollowsAnUnsettledGroup) {
  turns.submitted(true);
  turns.taken_all();
  turns.group_committed();
  turns.submitted(false);
  EXPECT_FALSE(turns.begin_small(now, true));
  EXPECT_EQ(turns.task(now, true), Task::kCommit);
  turns.taken_all();
  turns.group_settled();
  turns.submitted(false);
  EXPECT_TRUE(turns.begin_small(now, true));
}

TEST_F(CommitTurnsTest, TheWriterStandsInForACommitThatTakesTooLong) {
  ASSERT_TRUE(turns.begin_small(now, true));
  EXPECT_EQ(turns.task(now + CommitTurns::kDiskPatience - 1ms, false), Task::kWait);
  EXPECT_EQ(turns.task(now + CommitTurns::kDiskPatience, false), Task::kStandIn);
  turns.stand_in();
  EXPECT_TRUE(turns.writer_runs_sessions());
  turns.end_small();
  EXPECT_TRUE(turns.writer_runs_sessions()) << "until it has left them";
  turns.returned(false);
  EXPECT_EQ(turns.state(), State::kOpen);
}

TEST_F(CommitTurnsTest, TheWriterCommitsWhatIsSubmittedDuringAStandIn) {
  ASSERT_TRUE(turns.begin_small(now, true));
  turns.stand_in();
  turns.submitted(false);
  EXPECT_FALSE(turns.begin_small(now, true));
  turns.end_small();
  turns.returned(true);
  EXPECT_EQ(turns.task(now, true), Task::kCommit);
}

TEST_F(CommitTurnsTest, OnlyTheFirstOfManySmallCommitsWakesTheWriter) {
  turns.begin_wait();
  ASSERT_TRUE(turns.begin_small(now, true));
  EXPECT_TRUE(turns.calls_writer(now, false));
  turns.end_small();
  turns.end_wait();
  EXPECT_EQ(turns.longest_wait(), CommitTurns::kDiskPatience);
  turns.begin_wait();
  ASSERT_TRUE(turns.begin_small(now, true));
  EXPECT_FALSE(turns.calls_writer(now, false));
  turns.end_small();
  turns.end_wait();
  turns.begin_wait();
  turns.end_wait();
  EXPECT_EQ(turns.longest_wait(), CommitTurns::kIdleTurn) << "none since the last look";
}

TEST_F(CommitTurnsTest, DrainingCommitsWhatWaitsAndAbandoningDoesNot) {
  turns.submitted(false);
  turns.drain();
  EXPECT_FALSE(turns.begin_small(now, true));
  EXPECT_EQ(turns.task(now, true), Task::kCommit);
  EXPECT_EQ(turns.task(now, false), Task::kEnd);
  turns.abandon();
  EXPECT_EQ(turns.task(now, true), Task::kEnd);
}

TEST_F(CommitTurnsTest, StoppingWaitsForTheSmallCommitUnderWay) {
  ASSERT_TRUE(turns.begin_small(now, true));
  turns.drain();
  EXPECT_EQ(turns.task(now, false), Task::kWait);
  turns.end_small();
  EXPECT_EQ(turns.task(now, false), Task::kEnd);
}

}  // namespace
}  // namespace run_recorder
