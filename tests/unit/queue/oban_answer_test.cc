// What a row of Oban's says of one execution: pure, for both engines (contract section 6, rule 3; section 9).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "queue/oban_table.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using Kind = JobAnswer::Kind;

const Timestamp kStarted = parse_rfc3339("2026-11-28T12:00:00Z").value();
constexpr std::chrono::milliseconds kSkew = 10s;

JobAsked second_attempt() {
  return {.job_id = "7", .attempt = 2, .started_at = kStarted};
}
// Job 7 as it is while the second attempt is worked on, a snooze ago.
ObanJob job(std::string state, std::optional<std::int64_t> attempt = 2) {
  ObanJob job;
  job.state = std::move(state);
  job.attempt = attempt;
  job.inserted_at = kStarted - 1h;
  job.attempted_at = kStarted - 50ms;
  return job;
}
JobAnswer answer(const ObanJob& row, const JobAsked& asked = second_attempt()) {
  return oban_answer(asked, row, kSkew);
}

TEST(ObanAnswer, AJobThatExecutesIsWorkedOn) {
  EXPECT_EQ(answer(job("executing")).kind, Kind::kWorking);
  EXPECT_EQ(answer(job("executing", {})).kind, Kind::kWorking);
  ObanJob unclaimed = job("executing");
  unclaimed.attempted_at.reset();
  EXPECT_EQ(answer(unclaimed).kind, Kind::kWorking) << "without a time of the claim only the attempt counts";
}

TEST(ObanAnswer, ALaterAttemptTookOver) {
  for (const char* state : {"executing", "completed", "available", "discarded"}) {
    EXPECT_EQ(answer(job(state, 3)).kind, Kind::kOtherExecution) << state;
  }
}

TEST(ObanAnswer, AJobMayHaveChangedLaterThanANodeSaysWhoseClockIsBehind) {
  ObanJob done = job("completed");
  EXPECT_FALSE(answer(done).changed_ago);
  done.changed_ago = kSkew + 2s;
  EXPECT_EQ(answer(done).changed_ago, 2s);
  done.changed_ago = 5s;
  EXPECT_EQ(answer(done).changed_ago, 0s);
}

// Oban from 2.24: a snooze takes the attempt back, and the next claim has the same number again.
TEST(ObanAnswer, ASnoozedRunIsNotExecutingThoughItsAttemptWasTakenBack) {
  EXPECT_EQ(answer(job("scheduled", 1)).kind, Kind::kNotExecuting);
  EXPECT_FALSE(answer(job("scheduled", 1)).ended);
}

TEST(ObanAnswer, AClaimAfterTheStartIsAnotherExecutionWhateverItsNumber) {
  ObanJob again = job("executing");
  again.attempted_at = kStarted + kSkew + 1us;
  EXPECT_EQ(answer(again).kind, Kind::kOtherExecution);
  EXPECT_THAT(answer(again).detail, HasSubstr("claimed again"));
  EXPECT_EQ(answer(again).claimed_at, again.attempted_at);
  again.state = "completed";
  EXPECT_EQ(answer(again).kind, Kind::kOtherExecution);
  JobAsked unstated = second_attempt();
  unstated.attempt.reset();
  EXPECT_EQ(answer(again, unstated).kind, Kind::kOtherExecution);
}

TEST(ObanAnswer, ANodesClockMayBeAheadOrBehindByClockSkew) {
  ObanJob ahead = job("executing");
  ahead.inserted_at = ahead.attempted_at = kStarted + kSkew;
  EXPECT_EQ(answer(ahead).kind, Kind::kWorking);
  ObanJob behind = job("executing");
  behind.attempted_at = kStarted - 1h;
  EXPECT_EQ(answer(behind).kind, Kind::kWorking);
}

TEST(ObanAnswer, WithoutAStartOnlyTheAttemptCounts) {
  JobAsked unstarted = second_attempt();
  unstarted.started_at.reset();
  ObanJob later = job("executing");
  later.inserted_at = later.attempted_at = kStarted + 1h;
  EXPECT_EQ(answer(later, unstarted).kind, Kind::kWorking);
}

TEST(ObanAnswer, AnIdThatIsUsedAgainIsNotTheRunsJob) {
  for (const char* state : {"executing", "completed", "available"}) {
    ObanJob other = job(state, 1);
    other.inserted_at = kStarted + kSkew + 1us;
    other.attempted_at = kStarted + 1h;
    EXPECT_EQ(answer(other).kind, Kind::kAbsent) << state;
    EXPECT_THAT(answer(other).detail, HasSubstr("its own is gone"));
    EXPECT_TRUE(answer(other).state.empty()) << "another job's state is not this run's";
  }
}

TEST(ObanAnswer, CannotTellWhereAnEarlierAttemptExecutes) {
  EXPECT_EQ(answer(job("executing", 1)).kind, Kind::kCannotTell);
  EXPECT_EQ(answer(job("", 2)).kind, Kind::kCannotTell) << "a row without a state";
}

TEST(ObanAnswer, EndedJobsAreToldFromWaitingOnes) {
  EXPECT_EQ(answer(job("completed")).kind, Kind::kFinished);
  for (const char* state : {"cancelled", "discarded"}) {
    EXPECT_EQ(answer(job(state)).kind, Kind::kNotExecuting) << state;
    EXPECT_TRUE(answer(job(state)).ended) << state;
  }
  for (const char* state : {"available", "scheduled", "retryable", "suspended", "a word of a later version"}) {
    EXPECT_EQ(answer(job(state)).kind, Kind::kNotExecuting) << state;
    EXPECT_FALSE(answer(job(state)).ended) << state;
  }
}

// ---- what a reader cannot see

Kind kind_in(const ObanSnapshot& snapshot, const JobAsked& asked = second_attempt()) {
  return oban_answer(asked, 7, snapshot, kSkew).kind;
}
ObanSnapshot with(std::optional<ObanJob> row) {
  ObanSnapshot snapshot;
  if (row) snapshot.jobs.emplace(7, *row);
  return snapshot;
}

TEST(ObanSnapshot, AnAbsentJobIsAbsentOnlyWhereAllRowsAreShown) {
  EXPECT_EQ(kind_in(with({})), Kind::kAbsent);
  ObanSnapshot guarded = with({});
  guarded.may_hide = "row level security may hide rows";
  EXPECT_EQ(kind_in(guarded), Kind::kCannotTell);
  EXPECT_THAT(oban_answer(second_attempt(), 7, guarded, kSkew).detail, HasSubstr("row level security may hide rows"));
  guarded.jobs.emplace(7, job("available"));
  EXPECT_EQ(kind_in(guarded), Kind::kNotExecuting) << "a row that is shown is a row";
}

// As a standby an hour after the run's start.
ObanSnapshot replayed(std::optional<ObanJob> row, std::optional<Timestamp> until) {
  ObanSnapshot snapshot = with(std::move(row));
  snapshot.replay = ObanReplay{until, kStarted + 1h};
  return snapshot;
}

TEST(ObanSnapshot, AStandbyBehindTheStartCannotTell) {
  for (const auto until :
       {std::optional<Timestamp>(), std::optional(kStarted - 1h), std::optional(kStarted + kSkew)}) {
    EXPECT_EQ(kind_in(replayed({}, until)), Kind::kCannotTell);
    EXPECT_EQ(kind_in(replayed(job("available"), until)), Kind::kCannotTell);
    EXPECT_EQ(kind_in(replayed(job("completed"), until)), Kind::kCannotTell);
    EXPECT_EQ(kind_in(replayed(job("executing"), until)), Kind::kCannotTell);
    EXPECT_EQ(kind_in(replayed(job("executing", 3), until)), Kind::kOtherExecution) << "that does not come back";
  }
  EXPECT_THAT(oban_answer(second_attempt(), 7, replayed({}, kStarted), kSkew).detail, HasSubstr("standby"));
}

TEST(ObanSnapshot, AStandbyThatHasReplayedTheStartKnowsWhatEnded) {
  const Timestamp late = kStarted + kSkew + 1s;
  EXPECT_EQ(kind_in(replayed({}, late)), Kind::kAbsent);
  EXPECT_EQ(kind_in(replayed(job("available"), late)), Kind::kNotExecuting);
  EXPECT_EQ(kind_in(replayed(job("completed"), late)), Kind::kFinished);
  EXPECT_EQ(kind_in(replayed(job("executing"), late)), Kind::kCannotTell) << "it may have ended since";
  EXPECT_EQ(kind_in(replayed(job("executing"), kStarted + 1h - 20s)), Kind::kWorking);
}

TEST(ObanSnapshot, AStandbyIsAskedForJobsThatDidNotStartOnlyWhereItIsCurrent) {
  JobAsked queued = second_attempt();
  queued.started_at.reset();
  EXPECT_EQ(kind_in(replayed({}, kStarted + 1h - 20s), queued), Kind::kCannotTell);
  EXPECT_EQ(kind_in(replayed({}, kStarted + 1h - 1s), queued), Kind::kAbsent);
}

TEST(JobOf, ReadsIdAndAttemptOfARow) {
  run_recorder::Run run;  // not Test::Run
  EXPECT_FALSE(job_of(run));
  run.oban_job_id = 7;
  run.attempt = 3;
  run.recorder = "a";
  EXPECT_EQ(job_of(run)->job_id, "7");
  EXPECT_FALSE(job_of(run)->attempt) << "nobody stated it";
  run.attempt_given = true;
  EXPECT_EQ(job_of(run)->attempt, 3);
  run.attempt_given = false;
  run.recorder.clear();
  EXPECT_EQ(job_of(run)->attempt, 3) << "an application that writes the row itself states it";
  run.job_id = "uuid";
  run.queue = "mailers";
  EXPECT_EQ(job_of(run)->job_id, "uuid");
  EXPECT_EQ(job_of(run)->queue, "mailers");
}

}  // namespace
}  // namespace run_recorder::testing
