// Reconciliation's rules (contract section 6): every rule, every verdict and reason, and which comes first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "verdict_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An own row that nobody knows anything about.
RowFacts nothing_known() {
  RowFacts facts;
  facts.recorder = "recorder-a";
  facts.silence = 60s;
  return facts;
}

JobAnswer job(std::string state, std::chrono::milliseconds changed_ago = 1h) {
  using Kind = JobAnswer::Kind;
  const Kind kind = state == "executing"   ? Kind::kWorking
                    : state == "completed" ? Kind::kFinished
                                           : Kind::kNotExecuting;
  std::string detail = "job 7 is " + state;
  return {.kind = kind, .state = std::move(state), .changed_ago = changed_ago, .detail = std::move(detail)};
}
JobAnswer says(JobAnswer::Kind kind, std::string detail, std::chrono::milliseconds changed_ago = 1h) {
  return {.kind = kind, .state = "executing", .changed_ago = changed_ago, .detail = std::move(detail)};
}
JobAnswer absent() {
  return {.kind = JobAnswer::Kind::kAbsent, .detail = "job 7 is no longer in the queue"};
}
JobAnswer unavailable(std::string why) {
  return {.detail = std::move(why)};
}

// An own row with job 7 and what the queue says of it.
RowFacts with_job(JobAnswer answer) {
  RowFacts facts = nothing_known();
  facts.queue_configured = true;
  facts.job_id = "7";
  facts.job = std::move(answer);
  return facts;
}

RowFacts of_gone_recorder() {
  RowFacts facts = nothing_known();
  facts.other_recorder = true;
  facts.recorder = "recorder-z";
  return facts;
}

// ---- rule 1: another recorder

TEST(OtherRecorder, ThatIsSeenKeepsItsRows) {
  RowFacts facts = of_gone_recorder();
  facts.other_recorder_seen = true;
  expect(facts, VerdictKind::kForeign, "foreign");
  expect(facts, VerdictKind::kForeign, "foreign", kBoot);
}

TEST(OtherRecorder, ThatIsSeenOutweighsEverythingElse) {
  RowFacts facts = with_job(absent());
  facts.other_recorder = true;
  facts.other_recorder_seen = true;
  facts.worker = ProcessEvidence::kGone;
  facts.dead_letter = true;
  expect(facts, VerdictKind::kForeign, "foreign", kBoot);
}

TEST(OtherRecorder, ThatIsGoneLeavesARunWithoutJobStuck) {
  expect(of_gone_recorder(), VerdictKind::kStuck, "recorder_gone");
  expect(of_gone_recorder(), VerdictKind::kStuck, "recorder_gone", kBoot);
  EXPECT_THAT(judge(of_gone_recorder(), kLater).message, HasSubstr("recorder-z"));
}

TEST(OtherRecorder, ThatIsGoneLeavesARunWithJobToTheQueue) {
  const auto gone = [](RowFacts facts) {
    facts.other_recorder = true;
    return facts;
  };
  expect(gone(with_job(job("executing"))), VerdictKind::kAlive, "");
  expect(gone(with_job(absent())), VerdictKind::kStuck, "queue_row_absent");
  expect(gone(with_job(job("retryable"))), VerdictKind::kStuck, "queue_not_executing");
  expect(gone(with_job(unavailable("down"))), VerdictKind::kUnknown, "queue_unavailable");
}

TEST(OtherRecorder, ThatIsGoneLeavesARunWithJobUnknownWithoutQueue) {
  RowFacts facts = of_gone_recorder();
  facts.job_id = "7";
  expect(facts, VerdictKind::kUnknown, "no_queue");
  expect(facts, VerdictKind::kUnknown, "no_queue", kBoot);
}

TEST(OtherRecorder, IsNotAskedAboutProcessesOfItsHost) {
  RowFacts facts = of_gone_recorder();
  facts.worker = ProcessEvidence::kAlive;
  facts.sender = ProcessEvidence::kAlive;
  facts.connection_open = true;
  expect(facts, VerdictKind::kStuck, "recorder_gone");
  facts = with_job(job("executing"));
  facts.other_recorder = true;
  facts.worker = ProcessEvidence::kGone;
  expect(facts, VerdictKind::kAlive, "");
}

// ---- rule 2: the worker's process

TEST(WorkerProcess, ThatIsGoneLeavesTheRunStuck) {
  RowFacts facts = nothing_known();
  facts.worker = ProcessEvidence::kGone;
  facts.worker_text = "process 4711 has ended";
  expect(facts, VerdictKind::kStuck, "process_gone");
  EXPECT_EQ(judge(facts, kLater).message, "process 4711 has ended");
}

TEST(WorkerProcess, ThatIsGoneComesBeforeTheQueueAndTheSender) {
  RowFacts facts = with_job(job("executing"));
  facts.worker = ProcessEvidence::kGone;
  facts.sender = ProcessEvidence::kAlive;
  facts.connection_open = true;
  expect(facts, VerdictKind::kStuck, "process_gone");
}

TEST(WorkerProcess, ThatLivesDoesNotOutweighTheQueue) {
  RowFacts facts = with_job(job("discarded"));
  facts.worker = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kStuck, "queue_not_executing");
}

// ---- rule 3: the queue

TEST(Queue, SaysAliveOfAJobThatExecutes) {
  expect(with_job(job("executing")), VerdictKind::kAlive, "");
  expect(with_job(job("executing")), VerdictKind::kAlive, "", kBoot);
  // Executing is alive however lately it changed.
  expect(with_job(job("executing", 0s)), VerdictKind::kAlive, "");
}

TEST(Queue, SaysStuckOfAnExecutionThatALaterOneReplaced) {
  const JobAnswer other = says(JobAnswer::Kind::kOtherExecution, "job 7 was claimed again", 0s);
  expect(with_job(other), VerdictKind::kStuck, "attempt_superseded");
}

TEST(Queue, SaysStuckOfAJobWhoseHolderIsGone) {
  expect(with_job(says(JobAnswer::Kind::kHolderGone, "no heartbeat")), VerdictKind::kStuck,
         "queue_heartbeat_expired");
  expect(with_job(says(JobAnswer::Kind::kHolderGone, "no heartbeat", 0s)), VerdictKind::kDeferred, "");
}

TEST(Queue, DefersAJobThatJustChanged) {
  for (const char* state :
       {"available", "scheduled", "retryable", "completed", "discarded", "cancelled", "suspended"}) {
    expect(with_job(job(state, 29'999ms)), VerdictKind::kDeferred, "");
    EXPECT_NE(judge(with_job(job(state, 30s)), kLater).kind, VerdictKind::kDeferred);
  }
}

TEST(Queue, DefersByTheGraceThatIsSet) {
  Rules rules;
  rules.policy.grace = 2s;
  EXPECT_EQ(judge(with_job(job("available", 1'999ms)), rules).kind, VerdictKind::kDeferred);
  EXPECT_EQ(judge(with_job(job("available", 2s)), rules).kind, VerdictKind::kStuck);
}

TEST(Queue, SaysStuckOfAJobThatIsNotThere) {
  expect(with_job(absent()), VerdictKind::kStuck, "queue_row_absent");
}

TEST(Queue, SaysTheLastEventWasLostOfACompletedJob) {
  expect(with_job(job("completed")), VerdictKind::kStuck, "terminal_event_lost");
}

TEST(Queue, SaysStuckOfAnyOtherState) {
  for (const char* state :
       {"available", "scheduled", "retryable", "discarded", "cancelled", "suspended", "new word"}) {
    expect(with_job(job(state)), VerdictKind::kStuck, "queue_not_executing");
    EXPECT_THAT(judge(with_job(job(state)), kLater).message, HasSubstr(state));
  }
}

TEST(Queue, ThatDoesNotSayWhenARowChangedDoesNotDeferIt) {
  JobAnswer answer = job("available");
  answer.changed_ago.reset();
  expect(with_job(answer), VerdictKind::kStuck, "queue_not_executing");
}

TEST(Queue, ThatCannotBeReadIsUnknownWhateverLives) {
  RowFacts facts = with_job(unavailable("relation oban_jobs does not exist"));
  facts.sender = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kUnknown, "queue_unavailable", kBoot);
  EXPECT_THAT(judge(facts, kLater).message, HasSubstr("relation oban_jobs does not exist"));
  facts.job.reset();
  expect(facts, VerdictKind::kUnknown, "queue_unavailable");
}

TEST(Queue, ThatIsNotConfiguredIsNotAsked) {
  RowFacts facts = with_job(absent());
  facts.queue_configured = false;
  expect(facts, VerdictKind::kUnknown, "no_evidence");
  facts.sender = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kAlive, "");
}

TEST(Queue, IsNotAskedAboutARunWithoutJob) {
  RowFacts facts = nothing_known();
  facts.queue_configured = true;
  expect(facts, VerdictKind::kUnknown, "no_evidence");
}

// ---- rule 4: whoever vouches

TEST(Sender, VouchesForTheRun) {
  RowFacts facts = nothing_known();
  facts.sender = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kAlive, "", kBoot);
  facts = nothing_known();
  facts.connection_open = true;
  expect(facts, VerdictKind::kAlive, "", kBoot);
  facts = nothing_known();
  facts.worker = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kAlive, "", kBoot);
}

TEST(Sender, ThatIsGoneIsNoFinding) {
  RowFacts facts = nothing_known();
  facts.sender = ProcessEvidence::kGone;
  expect(facts, VerdictKind::kUnknown, "no_evidence");
}

TEST(Sender, VouchesHoweverLongTheRunIsSilent) {
  RowFacts facts = nothing_known();
  facts.sender = ProcessEvidence::kAlive;
  facts.silence = 1'000h;
  expect(facts, VerdictKind::kAlive, "");
}

// ---- rule 5: nobody vouches

TEST(UnvouchedRun, IsStuckAtBootAndUnknownLater) {
  expect(nothing_known(), VerdictKind::kStuck, "no_live_worker", kBoot);
  expect(nothing_known(), VerdictKind::kUnknown, "no_evidence", kLater);
}

TEST(UnvouchedRun, IsStuckOnceSilentForTooLong) {
  RowFacts facts = nothing_known();
  facts.silence = 24h;
  expect(facts, VerdictKind::kUnknown, "no_evidence");
  facts.silence = 24h + 1ms;
  expect(facts, VerdictKind::kStuck, "silent");
  expect(facts, VerdictKind::kStuck, "no_live_worker", kBoot);
}

TEST(UnvouchedRun, WithoutARecorderIsJudgedAsOnesOwn) {
  RowFacts facts = nothing_known();
  facts.recorder.clear();
  expect(facts, VerdictKind::kStuck, "no_live_worker", kBoot);
}

// ---- dead letters

TEST(DeadLetter, OutweighsEveryFinding) {
  for (RowFacts facts :
       {nothing_known(), with_job(absent()), with_job(says(JobAnswer::Kind::kOtherExecution, "claimed again")),
        of_gone_recorder(), with_job(job("available", 0s))}) {
    facts.dead_letter = true;
    expect(facts, VerdictKind::kUnknown, "dead_letter", kBoot);
  }
  RowFacts facts = nothing_known();
  facts.dead_letter = true;
  facts.worker = ProcessEvidence::kGone;
  expect(facts, VerdictKind::kUnknown, "dead_letter");
  facts.silence = 48h;
  expect(facts, VerdictKind::kUnknown, "dead_letter");
}

TEST(DeadLetter, LeavesARunUnknownThatWouldBeAlive) {
  RowFacts facts = nothing_known();
  facts.dead_letter = true;
  facts.worker = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kUnknown, "dead_letter");
}

// ---- for explain

TEST(Rules, AnswerInOrder) {
  RowFacts facts = with_job(job("executing"));
  facts.worker = ProcessEvidence::kGone;
  const Verdict verdict = judge(facts, kLater);
  std::vector<std::string_view> names;
  for (const RuleAnswer& rule : verdict.rules) {
    names.push_back(rule.name);
    EXPECT_FALSE(rule.detail.empty()) << rule.name;
  }
  EXPECT_THAT(names, ElementsAre("recorder", "dead_letter", "worker_process", "queue", "sender", "nobody"));
  EXPECT_EQ(verdict.rules[2].verdict, VerdictKind::kStuck);
  EXPECT_EQ(verdict.rules[3].verdict, VerdictKind::kAlive) << "what would decide is said too";
}

TEST(Rules, HaveWordsForEveryVerdict) {
  EXPECT_EQ(to_string(VerdictKind::kAlive), "alive");
  EXPECT_EQ(to_string(VerdictKind::kStuck), "stuck");
  EXPECT_EQ(to_string(VerdictKind::kUnknown), "unknown");
  EXPECT_EQ(to_string(VerdictKind::kForeign), "foreign");
  EXPECT_EQ(to_string(VerdictKind::kDeferred), "deferred");
  EXPECT_EQ(to_string(VerdictKind::kRaced), "raced");
}

}  // namespace
}  // namespace run_recorder::testing
