// What the state table's events do to the fields of a row, beside its status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "run_fixture.h"

namespace run_recorder::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

Row after(const Event& event) {
  return apply(nullptr, event, kRecorder).after;
}

// ---- the first event

TEST(FirstEvent, LeavesTheDefaultsWhereItSaysNothing) {
  const Row run = after(queued());
  EXPECT_EQ(run.run_id, "r1");
  EXPECT_EQ(run.council, "unknown");
  EXPECT_FALSE(run.council_given);
  EXPECT_EQ(run.attempt, 1);
  EXPECT_FALSE(run.attempt_given);
  EXPECT_EQ(run.parent_attempt_run_id, std::nullopt);
  EXPECT_EQ(run.oban_job_id, std::nullopt);
  EXPECT_EQ(run.input, std::nullopt);
  EXPECT_EQ(run.result, std::nullopt);
  EXPECT_EQ(run.error, std::nullopt);
  EXPECT_EQ(run.started_at, std::nullopt);
  EXPECT_EQ(run.finalized_at, std::nullopt);
}

TEST(FirstEvent, GivesTheRowItsFields) {
  Event event = started();
  event.council = "Demo.Council";
  event.attempt = 3;
  event.parent_attempt_run_id = "r0";
  event.oban_job_id = 9'223'372'036'854'775'807;
  event.input = R"({"q":1.10})";
  const Transition made = apply(nullptr, event, kRecorder);
  EXPECT_TRUE(made.fields_changed);
  EXPECT_EQ(made.after.council, "Demo.Council");
  EXPECT_TRUE(made.after.council_given);
  EXPECT_EQ(made.after.attempt, 3);
  EXPECT_TRUE(made.after.attempt_given);
  EXPECT_EQ(made.after.parent_attempt_run_id, "r0");
  EXPECT_EQ(made.after.oban_job_id, 9'223'372'036'854'775'807);
  EXPECT_EQ(made.after.input, R"({"q":1.10})");
}

TEST(FirstEvent, MayNameTheCouncilUnknown) {
  Event first = queued();
  first.council = "unknown";
  const Row run = after(first);
  EXPECT_TRUE(run.council_given);
  Event second = started();
  second.council = "demo";
  EXPECT_EQ(apply(&run, second, kRecorder).after.council, "unknown");
}

// ---- times

TEST(Times, AreWhenTheEventHappenedBySenderOrElseWhenItWasReceived) {
  EXPECT_EQ(after(started()).started_at, kReceived);
  Event event = started();
  event.at = kHappened;
  EXPECT_EQ(after(event).started_at, kHappened);
  Event end = completed();
  EXPECT_EQ(after(end).finalized_at, kReceived);
  end.at = kHappened;
  EXPECT_EQ(after(end).finalized_at, kHappened);
}

TEST(Times, OnlyAStartGivesStartedAt) {
  EXPECT_EQ(after(queued()).started_at, std::nullopt);
  EXPECT_EQ(after(other()).started_at, std::nullopt);
  EXPECT_EQ(after(completed()).started_at, std::nullopt);
  EXPECT_EQ(after(failed()).started_at, std::nullopt);
}

TEST(Times, OnlyAnEndGivesFinalizedAt) {
  EXPECT_EQ(after(queued()).finalized_at, std::nullopt);
  EXPECT_EQ(after(started()).finalized_at, std::nullopt);
  EXPECT_EQ(after(other()).finalized_at, std::nullopt);
  EXPECT_EQ(after(failed()).finalized_at, kReceived);
  EXPECT_EQ(after(cancelled()).finalized_at, kReceived);
}

TEST(Times, OfASecondStartDoNotReplaceTheFirst) {
  const Row run = row_of(Status::kRunning);
  Event event = started();
  event.at = kHappened;
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_EQ(made.after.started_at, kBegan);
  EXPECT_FALSE(made.fields_changed);
  EXPECT_EQ(made.history.front().effect, Effect::kRecorded);
}

TEST(Times, OfAStartThatComesLateFillAFinishedRow) {
  Row run = row_of(Status::kCompleted);
  run.started_at.reset();
  Event event = started();
  event.at = kHappened;
  event.council = "late";
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_EQ(made.after.started_at, kHappened);
  EXPECT_EQ(made.after.status, Status::kCompleted);
  EXPECT_TRUE(made.fields_changed);
  EXPECT_FALSE(made.outcome_changed);
  EXPECT_EQ(made.after.council, "demo");
  EXPECT_EQ(made.history.front().effect, Effect::kConflict);
  EXPECT_EQ(made.conflict, "run_started for a run that is already completed");
}

// ---- rows that were loaded without their texts

TEST(NotLoadedTexts, CountAsPresent) {
  Row run = row_of(Status::kRunning);
  run.input = JsonColumn::not_loaded();
  Event event = started();
  event.input = R"({"a":2})";
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_FALSE(made.fields_changed);
  EXPECT_TRUE(made.after.input);
  EXPECT_FALSE(made.after.input.loaded());
}

TEST(NotLoadedTexts, StayWhereTheEndSaysNothingOfThem) {
  Row run = row_of(Status::kRunning);
  run.result = JsonColumn::not_loaded();  // as an application may write it
  run.error = JsonColumn::not_loaded();
  Transition made = apply(&run, failed(), kRecorder);
  EXPECT_TRUE(made.outcome_changed);
  EXPECT_FALSE(made.after.result.loaded());
  EXPECT_FALSE(made.after.error.loaded());
  made = apply(&run, completed("1"), kRecorder);
  EXPECT_EQ(made.after.result, R"({"value":1})");
}

TEST(NotLoadedTexts, OfAStuckRunGoWithTheFinding) {
  Row run = row_of(Status::kStuck);
  run.error = JsonColumn::not_loaded();
  const Transition made = apply(&run, completed(), kRecorder);
  EXPECT_TRUE(made.outcome_changed);
  EXPECT_EQ(made.after.error, std::nullopt);
}

TEST(NotLoadedTexts, ConflictByTheDatabasesComparison) {
  Row run = row_of(Status::kCompleted);
  run.result = JsonColumn::not_loaded();
  EXPECT_THAT(apply(&run, completed("1"), kRecorder, {.result = true}).conflict, IsEmpty());
  EXPECT_THAT(apply(&run, completed("1"), kRecorder, {.result = false}).conflict, HasSubstr("result differs"));
  EXPECT_THAT(apply(&run, completed(), kRecorder, {.result = true}).conflict, HasSubstr("result differs"))
      << "absent differs from whatever is there";
  run = row_of(Status::kFailed);
  run.error = JsonColumn::not_loaded();
  EXPECT_THAT(apply(&run, failed(R"(["boom"])"), kRecorder, {.error = true}).conflict, IsEmpty());
  EXPECT_THAT(apply(&run, failed(R"(["boom"])"), kRecorder, {.error = false}).conflict, HasSubstr("errors differ"));
  EXPECT_THAT(apply(&run, failed(), kRecorder, {.error = true}).conflict, HasSubstr("errors differ"));
}

TEST(NotLoadedTexts, HaveToBeComparedOnlyWithATerminalEventOfARunThatHasAnOutcome) {
  Row finished = row_of(Status::kFailed);
  EXPECT_FALSE(needs_comparison(finished, failed())) << "it was loaded";
  finished.error = JsonColumn::not_loaded();
  EXPECT_TRUE(needs_comparison(finished, failed()));
  EXPECT_TRUE(needs_comparison(finished, completed()));
  for (const Event& event : {queued(), started(), other()}) EXPECT_FALSE(needs_comparison(finished, event));
  Row open = row_of(Status::kRunning);
  open.input = JsonColumn::not_loaded();
  EXPECT_FALSE(needs_comparison(open, completed("1")));
  Row stuck = row_of(Status::kStuck);
  stuck.error = JsonColumn::not_loaded();
  EXPECT_FALSE(needs_comparison(stuck, failed())) << "the finding goes";
}

// ---- fields that come later

TEST(LaterFields, FillWhatNoEventGaveYet) {
  for (const Status status :
       {Status::kQueued, Status::kRunning, Status::kCompleted, Status::kFailed, Status::kCancelled, Status::kStuck}) {
    Row run = row_of(status);
    run.council = "unknown";
    run.council_given = false;
    Event event = queued();
    event.council = "demo";
    event.attempt = 2;
    event.parent_attempt_run_id = "r0";
    event.oban_job_id = 5;
    event.input = "[1]";
    const Transition made = apply(&run, event, kRecorder);
    EXPECT_EQ(made.after.status, status);
    EXPECT_EQ(made.after.council, "demo");
    EXPECT_EQ(made.after.attempt, 2);
    EXPECT_EQ(made.after.parent_attempt_run_id, "r0");
    EXPECT_EQ(made.after.oban_job_id, 5);
    EXPECT_EQ(made.after.input, R"({"value":[1]})");
    EXPECT_TRUE(made.fields_changed);
    EXPECT_THAT(made.conflict, IsEmpty());
    EXPECT_EQ(made.history.front().effect, Effect::kApplied);
  }
}

TEST(LaterFields, NeverReplaceWhatWasGiven) {
  Row run = row_of(Status::kRunning);
  run.parent_attempt_run_id = "r0";
  run.oban_job_id = 5;
  run.input = R"({"a":1})";
  Event event = started();
  event.council = "another";
  event.parent_attempt_run_id = "r9";
  event.oban_job_id = 6;
  event.input = R"({"a":2})";
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_EQ(made.after.council, "demo");
  EXPECT_EQ(made.after.parent_attempt_run_id, "r0");
  EXPECT_EQ(made.after.oban_job_id, 5);
  EXPECT_EQ(made.after.input, R"({"a":1})");
  EXPECT_FALSE(made.fields_changed);
  EXPECT_EQ(made.history.front().effect, Effect::kRecorded);
}

TEST(LaterFields, OfOtherTypesDoNotActOnTheRow) {
  Row run = row_of(Status::kRunning);
  run.council = "unknown";
  run.council_given = false;
  for (Event event : {other(), completed(), failed()}) {
    event.council = "demo";
    event.attempt = 4;
    event.oban_job_id = 3;
    event.input = "1";
    const Transition made = apply(&run, event, kRecorder);
    EXPECT_EQ(made.after.council, "unknown");
    EXPECT_EQ(made.after.attempt, 1);
    EXPECT_EQ(made.after.oban_job_id, std::nullopt);
    EXPECT_EQ(made.after.input, std::nullopt);
    EXPECT_FALSE(made.fields_changed);
  }
}

TEST(LaterFields, FillARowWithoutACouncil) {
  Row run = row_of(Status::kRunning);
  run.council = "";
  run.council_given = false;
  EXPECT_EQ(apply(&run, other(), kRecorder).after.council, "unknown");
  Event event = started();
  event.council = "demo";
  EXPECT_EQ(apply(&run, event, kRecorder).after.council, "demo");
}

TEST(LaterFields, AreTakenByARowWithOutOfRangeValues) {
  Row run = row_of(Status::kRunning);
  run.council = std::string(300, 'c');
  run.parent_attempt_run_id = "";
  run.oban_job_id = 0;
  run.attempt = -1;
  EXPECT_EQ(apply(&run, completed("1"), kRecorder).after.status, Status::kCompleted);
}

// ---- the attempt

TEST(Attempt, IsGivenByTheFirstEventThatStatesIt) {
  Row run = row_of(Status::kRunning);
  Event event = started();
  event.attempt = 1;
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_TRUE(made.after.attempt_given);
  EXPECT_EQ(made.history.front().effect, Effect::kApplied);
  EXPECT_THAT(made.conflict, IsEmpty());
}

TEST(Attempt, ThatDiffersIsAConflictAndTheFirstStays) {
  for (const Status status : {Status::kQueued, Status::kRunning, Status::kCompleted, Status::kStuck}) {
    Row run = row_of(status);
    run.attempt = 2;
    run.attempt_given = true;
    Event event = queued();
    event.attempt = 3;
    const Transition made = apply(&run, event, kRecorder);
    EXPECT_EQ(made.after.attempt, 2);
    EXPECT_EQ(made.conflict, "attempt 3 for a run recorded as attempt 2");
    EXPECT_EQ(made.history.front().effect, Effect::kConflict);
  }
}

TEST(Attempt, ThatDiffersInAStartStillStartsTheRun) {
  Row run = row_of(Status::kQueued);
  run.attempt = 2;
  run.attempt_given = true;
  Event event = started();
  event.attempt = 3;
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_EQ(made.after.status, Status::kRunning);
  EXPECT_EQ(made.after.attempt, 2);
  EXPECT_EQ(made.history.front().effect, Effect::kConflict);
}

TEST(Attempt, ThatDiffersInARevivingEventIsAConflict) {
  Row run = row_of(Status::kStuck);
  run.attempt = 2;
  run.attempt_given = true;
  Event event = started();
  event.attempt = 3;
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_EQ(made.history.front().effect, Effect::kRevived);
  EXPECT_FALSE(made.conflict.empty());
}

TEST(Attempt, ThatIsRepeatedChangesNothing) {
  Row run = row_of(Status::kRunning);
  run.attempt = 2;
  run.attempt_given = true;
  Event event = started();
  event.attempt = 2;
  const Transition made = apply(&run, event, kRecorder);
  EXPECT_THAT(made.conflict, IsEmpty());
  EXPECT_EQ(made.history.front().effect, Effect::kRecorded);
}

// ---- where it runs

Event placed(Event event, const std::string& name) {
  event.host = name + "-host";
  event.unit = name + ".service";
  event.user = name;
  event.cwd = "/home/" + name;
  event.command = name + " --all";
  return event;
}

TEST(Place, IsWhatTheFirstEventSaysOfIt) {
  for (const Event& event : {queued(), started()}) {
    const Transition first = apply(nullptr, placed(event, "a"), kRecorder);
    EXPECT_TRUE(first.fields_changed);
    const Transition second = apply(&first.after, placed(started(), "b"), kRecorder);
    for (const Row& run : {first.after, second.after}) {
      EXPECT_EQ(run.host, "a-host");
      EXPECT_EQ(run.unit, "a.service");
      EXPECT_EQ(run.os_user, "a");
      EXPECT_EQ(run.cwd, "/home/a");
      EXPECT_EQ(run.command, "a --all");
    }
  }
}

TEST(Place, IsFilledFieldByField) {
  Row run = row_of(Status::kRunning);
  run.unit = "a.service";
  const Transition made = apply(&run, placed(started(), "b"), kRecorder);
  EXPECT_EQ(made.after.host, "host-a");
  EXPECT_EQ(made.after.unit, "a.service");
  EXPECT_EQ(made.after.os_user, "b");
  EXPECT_TRUE(made.fields_changed);
  EXPECT_EQ(made.history.front().effect, Effect::kApplied);
  EXPECT_FALSE(apply(&made.after, placed(started(), "c"), kRecorder).fields_changed);
}

TEST(Place, IsTheRecordersHostOnceTheRunRuns) {
  const Row waiting = row_of(Status::kQueued);
  Row stuck = row_of(Status::kStuck);
  stuck.host.reset();  // as of a daemon that did not know it
  for (const Event& event : {started(), other(), heartbeat()}) {
    EXPECT_EQ(after(event).host, "host-b");
    for (const Row* before : {&waiting, &std::as_const(stuck)}) {
      const Transition made = apply(before, event, kRecorder);
      EXPECT_EQ(made.after.host, "host-b");
      EXPECT_TRUE(made.fields_changed);
    }
  }
  EXPECT_EQ(after(started()).unit, std::nullopt);
  EXPECT_EQ(apply(nullptr, started(), {.recorder = "recorder-b"}).after.host, std::nullopt);
}

TEST(Place, OfARunIsNotWhereItWasQueuedOrItsEndWasTold) {
  for (const Event& event : {queued(), completed(), failed(), cancelled(), lost()}) {
    EXPECT_EQ(after(event).host, std::nullopt) << event.type;
    const Row waiting = row_of(Status::kQueued);
    EXPECT_EQ(apply(&waiting, event, kRecorder).after.host, std::nullopt) << event.type;
  }
}

TEST(Place, IsThatOfAStartWhichComesBehindItsEnd) {
  const Row ended = after(completed());
  EXPECT_EQ(apply(&ended, started(), kRecorder).after.host, "host-b");
}

TEST(Place, StaysWhereAnotherRecorderHasEventsOfTheRun) {
  const Row run = row_of(Status::kRunning);
  for (const Event& event : {started(), other(), heartbeat(), completed()}) {
    const Transition made = apply(&run, event, kRecorder);
    EXPECT_EQ(made.after.host, "host-a");
    EXPECT_FALSE(made.fields_changed);
  }
}

// ---- input, result, errors

TEST(Maps, WrapValuesThatAreNoObjects) {
  EXPECT_EQ(as_map("{}"), "{}");
  EXPECT_EQ(as_map(R"({"value":1})"), R"({"value":1})");
  EXPECT_EQ(as_map("[1,2]"), R"({"value":[1,2]})");
  EXPECT_EQ(as_map(R"("text")"), R"({"value":"text"})");
  EXPECT_EQ(as_map("null"), R"({"value":null})");
  EXPECT_EQ(as_map("false"), R"({"value":false})");
}

TEST(Maps, KeepNumbersDigitByDigit) {
  for (const char* number : {"0.10", "1e400", "12345678901234567890123456789.000", "-0", "1E+2"}) {
    EXPECT_EQ(after(completed(number)).result, std::string(R"({"value":)") + number + "}");
    Event event = started();
    event.input = std::string(R"({"n":)") + number + "}";
    EXPECT_EQ(after(event).input, event.input);
  }
}

TEST(Result, AbsentIsNotTheSameAsNull) {
  EXPECT_EQ(after(completed()).result, std::nullopt);
  EXPECT_EQ(after(completed("null")).result, R"({"value":null})");
  const Row absent = after(completed());
  EXPECT_EQ(apply(&absent, completed("null"), kRecorder).conflict, "result differs from the recorded one");
  const Row null = after(completed("null"));
  EXPECT_EQ(apply(&null, completed(), kRecorder).conflict, "result differs from the recorded one");
  EXPECT_THAT(apply(&null, completed("null"), kRecorder).conflict, IsEmpty());
  EXPECT_THAT(apply(&absent, completed(), kRecorder).conflict, IsEmpty());
}

TEST(Result, IsKeptOfAFailedRunToo) {
  Event event = failed(R"(["boom"])");
  event.result = "7";
  const Row run = after(event);
  EXPECT_EQ(run.status, Status::kFailed);
  EXPECT_EQ(run.result, R"({"value":7})");
  EXPECT_EQ(run.error, R"({"errors":["boom"]})");
  event.result = "8";
  EXPECT_EQ(apply(&run, event, kRecorder).conflict, "result differs from the recorded one");
}

TEST(Result, SpelledDifferentlyIsTheSame) {
  const Row run = after(completed(R"({"a":1.0,"b":"é"})"));
  EXPECT_THAT(apply(&run, completed(R"({ "b":"é", "a":10e-1 })"), kRecorder).conflict, IsEmpty());
  EXPECT_THAT(apply(&run, completed(R"({"a":1.01,"b":"é"})"), kRecorder).conflict, HasSubstr("result differs"));
}

TEST(Result, OfACompletedRunIsNotComparedWithErrors) {
  Event event = completed("1");
  event.errors = R"(["kept in the history only"])";
  const Row run = after(event);
  EXPECT_EQ(run.error, std::nullopt);
  EXPECT_THAT(apply(&run, completed("1"), kRecorder).conflict, IsEmpty());
}

TEST(Errors, AreKeptAsAnObject) {
  EXPECT_EQ(after(failed(R"(["a",{"kind":"exit","status":1}])")).error,
            R"({"errors":["a",{"kind":"exit","status":1}]})");
  EXPECT_EQ(after(failed("[]")).error, R"({"errors":[]})");
}

TEST(Errors, ThatAreAbsentLeaveErrorNull) {
  const Row run = after(failed());
  EXPECT_EQ(run.status, Status::kFailed);
  EXPECT_EQ(run.error, std::nullopt);
  EXPECT_EQ(apply(&run, failed("[]"), kRecorder).conflict, "errors differ from the recorded ones");
  EXPECT_THAT(apply(&run, failed(), kRecorder).conflict, IsEmpty());
}

TEST(Errors, OfACancelledRunAreKeptToo) {
  const Row run = after(cancelled(R"(["late",{"kind":"cancelled"}])"));
  EXPECT_EQ(run.status, Status::kCancelled);
  EXPECT_EQ(run.error, R"({"errors":["late",{"kind":"cancelled"}]})");
}

TEST(Errors, OfAnotherOutcomeAreAConflict) {
  const Row run = row_of(Status::kFailed);
  EXPECT_EQ(apply(&run, cancelled(), kRecorder).conflict, "run_failed for a run that is already failed");
  EXPECT_THAT(apply(&run, failed(R"(["boom"])"), kRecorder).conflict, IsEmpty());
}

TEST(Conflict, IsNotRaisedByARepeatedOutcome) {
  for (const auto& [status, event] :
       std::vector<std::pair<Status, Event>>{{Status::kCompleted, completed(R"({"n":1})")},
                                             {Status::kFailed, failed(R"(["boom"])")},
                                             {Status::kCancelled, cancelled()}}) {
    const Row run = row_of(status);
    const Transition made = apply(&run, event, kRecorder);
    EXPECT_THAT(made.conflict, IsEmpty());
    EXPECT_EQ(made.history.front().effect, Effect::kRecorded);
    EXPECT_FALSE(made.finalized);
  }
}

// ---- processes

TEST(Processes, WorkerIsTheLatestThatWasNamed) {
  Row run = row_of(Status::kRunning);
  run.worker_process = "m:b:n:1:1";
  EXPECT_EQ(apply(&run, other(), kRecorder).after.worker_process, "m:b:n:1:1");
  Event event = other();
  event.worker_pid = 2;
  event.worker_process = "m:b:n:2:9";
  EXPECT_EQ(apply(&run, event, kRecorder).after.worker_process, "m:b:n:2:9");
  // A worker that was named and cannot be seen is not the one named before.
  event.worker_process.clear();
  EXPECT_EQ(apply(&run, event, kRecorder).after.worker_process, "");
}

TEST(Processes, WorkerThatWasFoundGoneIsForgottenWhenTheRunGoesOn) {
  const Row run = row_of(Status::kStuck);
  EXPECT_EQ(apply(&run, other(), kRecorder).after.worker_process, "");
  EXPECT_EQ(apply(&run, queued(), kRecorder).after.worker_process, "m:b:n:11:1");
}

// ---- the history

TEST(History, KeepsTheEventAsItCame) {
  Event event = other();
  event.id = "e1";
  event.at = kHappened;
  event.payload = R"({"a":0.10})";
  event.peer_uid = 1'000;
  event.peer_pid = 42;
  const HistoryEntry entry = apply(nullptr, event, kRecorder).history.front();
  EXPECT_EQ(entry.run_id, "r1");
  EXPECT_EQ(entry.seq, 1);
  EXPECT_EQ(entry.type, "member_started");
  EXPECT_EQ(entry.payload, R"({"a":0.10})");
  EXPECT_EQ(entry.event_id, "e1");
  EXPECT_EQ(entry.at, kHappened);
  EXPECT_EQ(entry.received_at, kReceived);
  EXPECT_EQ(entry.peer_uid, 1'000U);
  EXPECT_EQ(entry.peer_pid, 42);
  EXPECT_EQ(entry.pass_id, "");
}

TEST(History, SaysWhatRevivedTheRunAndFromWhichPass) {
  const Row run = row_of(Status::kStuck);
  Event event = completed("1");
  event.id = "e1";
  const Transition made = apply(&run, event, kRecorder);
  ASSERT_EQ(made.history.size(), 2U);
  const HistoryEntry& revived = made.history[1];
  const auto payload = nlohmann::json::parse(revived.payload);
  EXPECT_EQ(payload["from"], "stuck");
  EXPECT_EQ(payload["to"], "completed");
  EXPECT_EQ(payload["by"], "run_completed");
  EXPECT_EQ(payload["pass_id"], "pass-1");
  EXPECT_EQ(revived.event_id, std::nullopt) << "the sender's id belongs to the event, once";
  EXPECT_EQ(revived.received_at, kReceived);
}

TEST(History, HasWordsForEveryEffect) {
  EXPECT_EQ(to_string(Effect::kApplied), "applied");
  EXPECT_EQ(to_string(Effect::kRecorded), "recorded");
  EXPECT_EQ(to_string(Effect::kConflict), "conflict");
  EXPECT_EQ(to_string(Effect::kRevived), "revived");
}

// ---- what a sender finds and reports

TEST(RunLost, IsAFindingOfTheSenders) {
  const Row before = row_of(Status::kRunning);
  Event event = lost("the job's process is gone");
  event.at = kHappened;
  const Transition made = apply(&before, event, kRecorder);
  EXPECT_EQ(made.after.status, Status::kStuck);
  EXPECT_EQ(made.after.finalized_at, kHappened);
  EXPECT_EQ(
      made.after.error,
      JsonText(R"({"kind":"stuck","reason":"reported_lost","message":"the job's process is gone","evidence":{}})"));
  EXPECT_TRUE(made.outcome_changed);
  EXPECT_FALSE(made.finalized) << "the run may still tell how it ended";
}

TEST(RunLost, HasAMessageAlways) {
  const auto error = nlohmann::json::parse(apply(nullptr, lost(), kRecorder).after.error->c_str());
  EXPECT_EQ(error["reason"], "reported_lost");
  EXPECT_FALSE(error["message"].get<std::string>().empty());
}

TEST(RunLost, BelongsToNoPass) {
  Row before = row_of(Status::kRunning);
  before.stuck_pass = "pass-1";
  EXPECT_EQ(apply(&before, lost(), kRecorder).after.stuck_pass, "");
}

TEST(RunLost, LeavesAFindingAndAnOutcomeAlone) {
  for (const Status status : {Status::kStuck, Status::kCompleted}) {
    const Row before = row_of(status);
    const Transition made = apply(&before, lost("x"), kRecorder);
    EXPECT_EQ(made.after.error, before.error);
    EXPECT_EQ(made.after.finalized_at, before.finalized_at);
    EXPECT_FALSE(made.outcome_changed);
  }
}

TEST(RunLost, IsCorrectedByALaterEvent) {
  const Row found = apply(nullptr, lost(), kRecorder).after;
  const Transition made = apply(&found, completed("1"), kRecorder);
  EXPECT_EQ(made.after.status, Status::kCompleted);
  EXPECT_EQ(made.after.error, std::nullopt);
  EXPECT_EQ(types_of(made), (std::vector<std::string>{"run_completed", "run_revived"}));
}

TEST(JobState, ComesFromTheSenderWhereItSaysOne) {
  const Row before = row_of(Status::kRunning);
  Event event = completed();
  event.job_state = "completed";
  EXPECT_EQ(apply(&before, event, kRecorder).after.oban_job_state_at_finalize, "completed");
  const Row finding = row_of(Status::kStuck);
  EXPECT_EQ(apply(&finding, event, kRecorder).after.oban_job_state_at_finalize, "completed");
  EXPECT_EQ(apply(&finding, completed(), kRecorder).after.oban_job_state_at_finalize, std::nullopt);
  const Row finished = apply(&before, event, kRecorder).after;
  event.job_state = "executing";
  EXPECT_EQ(apply(&finished, event, kRecorder).after.oban_job_state_at_finalize, "completed");
}

// ---- queue and job

TEST(Job, IsFilledFromTheFirstEventThatNamesIt) {
  Event event = started();
  event.queue = "mail";
  event.job_id = "a-7";
  const Transition made = apply(nullptr, event, kRecorder);
  EXPECT_EQ(made.after.queue, "mail");
  EXPECT_EQ(made.after.job_id, "a-7");
  EXPECT_TRUE(made.fields_changed);
  event.queue = "other";
  event.job_id = "b-8";
  event.oban_job_id = 8;
  const Transition again = apply(&made.after, event, kRecorder);
  EXPECT_EQ(again.after.queue, "mail");
  EXPECT_EQ(again.after.job_id, "a-7");
  EXPECT_EQ(again.after.oban_job_id, std::nullopt);
  EXPECT_FALSE(again.fields_changed);
}

// Else the row would name a job of a queue that no event named, and be found stuck by what that one does.
TEST(Job, IsNotPutTogetherFromTwoEventsThatNameDifferentOnes) {
  Row before = row_of(Status::kRunning);
  before.job_id = "7";
  before.oban_job_id = 7;
  Event event = started();
  event.queue = "other";
  event.job_id = "8";
  event.oban_job_id = 8;
  const Row after = apply(&before, event, kRecorder).after;
  EXPECT_EQ(after.queue, std::nullopt);
  EXPECT_EQ(after.job_id, "7");
  before = row_of(Status::kRunning);
  before.queue = "mail";
  const Row of_a_queue = apply(&before, event, kRecorder).after;
  EXPECT_EQ(of_a_queue.queue, "mail");
  EXPECT_EQ(of_a_queue.job_id, std::nullopt);
  EXPECT_EQ(of_a_queue.oban_job_id, std::nullopt);
  event.queue = "mail";
  EXPECT_EQ(apply(&before, event, kRecorder).after.job_id, "8");
  event.job_id.reset();
  event.oban_job_id.reset();
  before.queue.reset();
  before.job_id = "7";
  EXPECT_EQ(apply(&before, event, kRecorder).after.queue, "mail");
}

TEST(Job, OfARowThatAnApplicationWroteIsNotTakenForAnother) {
  Row before = row_of(Status::kRunning);
  before.oban_job_id = 7;
  Event event = started();
  event.oban_job_id = 8;
  event.job_id = "8";
  EXPECT_EQ(apply(&before, event, kRecorder).after.job_id, std::nullopt);
  event.oban_job_id = 7;
  event.job_id = "7";
  EXPECT_EQ(apply(&before, event, kRecorder).after.job_id, "7");
}

// ---- expires_in, usage, progress

TEST(Reports, AreKeptInTheRow) {
  Event event = started();
  event.expires_in = 90;
  event.usage = R"({"input_tokens":1200})";
  event.progress = R"({"done":1,"total":4})";
  const Transition made = apply(nullptr, event, kRecorder);
  EXPECT_TRUE(made.reports_changed);
  EXPECT_EQ(made.after.expires_in, 90);
  EXPECT_EQ(made.after.usage, JsonText(R"({"input_tokens":1200})"));
  EXPECT_EQ(made.after.progress, JsonText(R"({"done":1,"total":4})"));
  Event more = heartbeat();
  more.progress = R"({"done":2})";
  const Transition next = apply(&made.after, more, kRecorder);
  EXPECT_EQ(next.after.progress, JsonText(R"({"done":2})"));
  EXPECT_EQ(next.after.usage, made.after.usage);
  EXPECT_TRUE(next.history.empty());
}

TEST(Reports, UsageIsSummedInFinishedRowsToo) {
  Row before = row_of(Status::kCompleted);
  before.usage = R"({"cost_usd":0.1})";
  Event event = other();
  event.usage = R"({"cost_usd":0.2})";
  EXPECT_EQ(apply(&before, event, kRecorder).after.usage, JsonText(R"({"cost_usd":0.3})"));
}

TEST(Reports, AHeartbeatWithUsageIsKeptBecauseAResendMustNotCountTwice) {
  const Row before = row_of(Status::kRunning);
  Event event = heartbeat();
  event.usage = R"({"n":1})";
  const Transition made = apply(&before, event, kRecorder);
  ASSERT_EQ(made.history.size(), 1u);
  EXPECT_EQ(made.history[0].effect, Effect::kRecorded);
  EXPECT_EQ(made.after.last_seq, before.last_seq + 1);
}

}  // namespace
}  // namespace run_recorder::testing
