// What the rules of reconciliation leave for later, whose last word they wait for, and what they make of heartbeats
// and of jobs that were never started (contract section 6).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "verdict_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

const Rules kJustListening{.boot = true, .listening_for = 29'999ms};
const Rules kListening{.boot = true, .listening_for = 30s};

RowFacts silent_run() {
  RowFacts facts;
  facts.recorder = "recorder-a";
  facts.silence = 10min;
  return facts;
}

RowFacts with_worker(ProcessEvidence worker, ProcessEvidence sender) {
  RowFacts facts = silent_run();
  facts.worker_named = true;
  facts.worker = worker;
  facts.worker_text = "process 4711 has ended";
  facts.sender = sender;
  return facts;
}

RowFacts with_job(JobAnswer::Kind kind, std::string state,
                  std::optional<std::chrono::milliseconds> changed_ago = 1h) {
  RowFacts facts = silent_run();
  facts.queue_configured = true;
  facts.job_id = "7";
  facts.job = JobAnswer{.kind = kind, .state = state, .changed_ago = changed_ago, .detail = "job 7 is " + state};
  return facts;
}

RowFacts queued(RowFacts facts) {
  facts.status = Status::kQueued;
  return facts;
}

RowFacts ended(RowFacts facts) {
  facts.job->ended = true;
  return facts;
}

// ---- a process that has just gone

TEST(WorkerThatHasJustGone, IsDeferredWhileItsSenderLives) {
  RowFacts facts = with_worker(ProcessEvidence::kGone, ProcessEvidence::kAlive);
  facts.worker_gone_for = 29'999ms;
  expect(facts, VerdictKind::kDeferred, "");
  facts.worker_gone_for = 30s;
  expect(facts, VerdictKind::kStuck, "process_gone");
}

TEST(WorkerThatHasJustGone, IsDeferredWhileTheConnectionIsOpen) {
  RowFacts facts = with_worker(ProcessEvidence::kGone, ProcessEvidence::kGone);
  facts.worker_gone_for = 0ms;
  facts.connection_open = true;
  expect(facts, VerdictKind::kDeferred, "", kBoot);
}

TEST(WorkerThatHasJustGone, IsStuckOnceItsSenderIsGone) {
  RowFacts facts = with_worker(ProcessEvidence::kGone, ProcessEvidence::kGone);
  facts.worker_gone_for = 0ms;
  expect(facts, VerdictKind::kStuck, "process_gone");
  facts.sender = ProcessEvidence::kNone;
  expect(facts, VerdictKind::kStuck, "process_gone");
}

TEST(WorkerThatHasGone, LeavesFinishedWorkWhoseReportIsLost) {
  RowFacts facts = with_job(JobAnswer::Kind::kFinished, "completed", 0ms);
  facts.worker_named = true;
  facts.worker = ProcessEvidence::kGone;
  facts.sender = ProcessEvidence::kGone;
  expect(facts, VerdictKind::kStuck, "terminal_event_lost");
  facts.job->kind = JobAnswer::Kind::kNotExecuting;
  expect(facts, VerdictKind::kStuck, "process_gone");
  facts.job->kind = JobAnswer::Kind::kCannotTell;
  expect(facts, VerdictKind::kStuck, "process_gone");
}

// ---- what was sent while nobody listened

TEST(Listening, JudgesAtOnceOnlyRunsWhoseWorkerAndSenderAreGone) {
  expect(with_worker(ProcessEvidence::kGone, ProcessEvidence::kGone), VerdictKind::kStuck, "process_gone",
         kJustListening);
  RowFacts sender_only = silent_run();
  sender_only.sender = ProcessEvidence::kGone;
  expect(sender_only, VerdictKind::kStuck, "no_live_worker", kJustListening);
}

TEST(Listening, DefersEveryOtherFinding) {
  using enum ProcessEvidence;
  RowFacts open = with_worker(kGone, kGone);
  open.connection_open = true;
  RowFacts gone_recorder = silent_run();
  gone_recorder.other_recorder = true;
  RowFacts long_silent = silent_run();
  long_silent.silence = 48h;
  RowFacts living_worker = with_job(JobAnswer::Kind::kFinished, "completed");
  living_worker.worker = kAlive;
  living_worker.worker_named = true;
  living_worker.sender = kGone;
  for (const RowFacts& facts :
       {silent_run(), with_worker(kGone, kAlive), with_worker(kGone, kNone), with_worker(kNone, kGone), open,
        gone_recorder, long_silent, living_worker, with_job(JobAnswer::Kind::kFinished, "completed"),
        with_job(JobAnswer::Kind::kAbsent, ""), with_job(JobAnswer::Kind::kOtherExecution, "executing"),
        queued(ended(with_job(JobAnswer::Kind::kNotExecuting, "cancelled")))}) {
    const Verdict now = judge(facts, kJustListening);
    EXPECT_EQ(to_string(now.kind), "deferred") << now.message;
    EXPECT_EQ(now.reason, "");
    EXPECT_THAT(now.message, HasSubstr("has accepted events for 29 s"));
    EXPECT_EQ(to_string(judge(facts, kListening).kind), "stuck") << judge(facts, kListening).message;
  }
}

TEST(Listening, ChangesNoOtherVerdict) {
  RowFacts alive = silent_run();
  alive.sender = ProcessEvidence::kAlive;
  expect(alive, VerdictKind::kAlive, "", kJustListening);
  expect(with_job(JobAnswer::Kind::kCannotTell, ""), VerdictKind::kUnknown, "queue_unavailable", kJustListening);
}

// ---- the boot pass

TEST(BootPass, JudgesByTheRuleOfTheBootOnlyWhatCameBeforeIt) {
  RowFacts facts = silent_run();
  expect(facts, VerdictKind::kStuck, "no_live_worker", kBoot);
  facts.received_here = true;
  expect(facts, VerdictKind::kUnknown, "no_evidence", kBoot);
  expect(facts, VerdictKind::kStuck, "no_live_worker", Rules{.unvouched = true});
}

TEST(RunWithinTheGrace, IsDeferredWhateverTheEvidence) {
  RowFacts facts = with_worker(ProcessEvidence::kGone, ProcessEvidence::kGone);
  facts.too_young = true;
  facts.silence = 3s;
  expect(facts, VerdictKind::kDeferred, "", kBoot);
  EXPECT_EQ(judge(facts, kBoot).rules.size(), 6U) << "explain says what each rule would say";
}

// ---- a job that executes by its queue's word alone

TEST(RunVouchedByItsQueueOnly, IsUnknownOnceItsSenderIsGone) {
  RowFacts facts = with_job(JobAnswer::Kind::kWorking, "executing");
  facts.sender = ProcessEvidence::kGone;
  expect(facts, VerdictKind::kUnknown, "sender_gone");
  expect(facts, VerdictKind::kUnknown, "sender_gone", kBoot);
  facts.silence = 24h + 1ms;
  expect(facts, VerdictKind::kStuck, "silent");
}

TEST(RunVouchedByItsQueueOnly, IsAliveWhileTheSenderMayLive) {
  RowFacts facts = with_job(JobAnswer::Kind::kWorking, "executing");
  expect(facts, VerdictKind::kAlive, "");
  facts.sender = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kAlive, "");
  facts.sender = ProcessEvidence::kGone;
  facts.connection_open = true;
  expect(facts, VerdictKind::kAlive, "");
  facts.connection_open = false;
  facts.worker_named = true;  // and cannot be seen
  expect(facts, VerdictKind::kAlive, "");
  facts.worker_named = false;
  facts.expires_in = 1h;
  expect(facts, VerdictKind::kAlive, "");
  facts.expires_in = 1min;
  expect(facts, VerdictKind::kUnknown, "sender_gone");
}

// ---- heartbeats

TEST(Heartbeat, VouchesUntilItExpires) {
  RowFacts facts = silent_run();
  facts.sender = ProcessEvidence::kGone;
  facts.expires_in = 600s;
  expect(facts, VerdictKind::kAlive, "", kBoot);
  facts.silence += 1ms;
  expect(facts, VerdictKind::kStuck, "heartbeat_expired");
  expect(facts, VerdictKind::kStuck, "heartbeat_expired", kBoot);
}

TEST(Heartbeat, ThatExpiredIsAFindingWhereItsSenderLivesOn) {
  RowFacts facts = silent_run();
  facts.sender = ProcessEvidence::kAlive;
  facts.connection_open = true;
  facts.expires_in = 60s;
  expect(facts, VerdictKind::kStuck, "heartbeat_expired");
  facts.worker_named = true;
  facts.worker = ProcessEvidence::kAlive;
  expect(facts, VerdictKind::kAlive, "");
}

TEST(Heartbeat, ExpiresOnlyByTimeInWhichTheDaemonListened) {
  RowFacts facts = silent_run();
  facts.sender = ProcessEvidence::kNone;
  facts.expires_in = 60s;
  expect(facts, VerdictKind::kAlive, "", Rules{.boot = true, .listening_for = 60s});
  expect(facts, VerdictKind::kStuck, "heartbeat_expired", Rules{.boot = true, .listening_for = 60'001ms});
}

// ---- queued rows that name a job

TEST(QueuedRun, IsStuckOnceItsJobIsGoneOrEndedForGood) {
  expect(queued(with_job(JobAnswer::Kind::kAbsent, "")), VerdictKind::kStuck, "queue_row_absent");
  for (const char* state : {"cancelled", "discarded"}) {
    expect(queued(ended(with_job(JobAnswer::Kind::kNotExecuting, state))), VerdictKind::kStuck,
           "queue_not_executing");
    expect(queued(ended(with_job(JobAnswer::Kind::kNotExecuting, state, 1s))), VerdictKind::kDeferred, "");
  }
  expect(queued(with_job(JobAnswer::Kind::kFinished, "completed")), VerdictKind::kStuck, "terminal_event_lost");
}

TEST(QueuedRun, IsLeftWhereItsJobWaitsOrIsBeingWorkedOn) {
  for (const char* state : {"available", "scheduled", "retryable", "suspended"}) {
    expect(queued(with_job(JobAnswer::Kind::kNotExecuting, state)), VerdictKind::kAlive, "", kBoot);
  }
  RowFacts facts = queued(with_job(JobAnswer::Kind::kWorking, "executing"));
  facts.sender = ProcessEvidence::kGone;
  expect(facts, VerdictKind::kAlive, "");
  expect(queued(with_job(JobAnswer::Kind::kHolderGone, "executing")), VerdictKind::kAlive, "");
  expect(queued(with_job(JobAnswer::Kind::kOtherExecution, "executing")), VerdictKind::kAlive, "");
  expect(queued(with_job(JobAnswer::Kind::kCannotTell, "")), VerdictKind::kUnknown, "queue_unavailable");
}

TEST(QueuedRun, IsJudgedByNoProcess) {
  RowFacts facts = queued(with_job(JobAnswer::Kind::kNotExecuting, "available"));
  facts.worker_named = true;
  facts.worker = ProcessEvidence::kGone;
  facts.sender = ProcessEvidence::kGone;
  facts.silence = 1'000h;
  expect(facts, VerdictKind::kAlive, "", kBoot);
  facts.other_recorder = true;
  expect(facts, VerdictKind::kAlive, "");
  facts.other_recorder_seen = true;
  expect(facts, VerdictKind::kForeign, "foreign");
}

}  // namespace
}  // namespace run_recorder::testing
