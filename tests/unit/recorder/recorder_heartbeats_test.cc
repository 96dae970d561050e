// Heartbeats from the spool to the rows, and what senders say of a job's end.
#include <gmock/gmock.h>

#include "recorder/recorder.h"
#include "recorder_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class RecordedHeartbeats : public RecorderFixture {
 protected:
  // A run whose row its first heartbeat has written; its last event seems to be long ago.
  void begin(std::chrono::milliseconds heartbeat_every) {
    recorder_options_.heartbeat_every = heartbeat_every;
    start();
    append({line_of("run_started", "r", R"("council":"demo","expires_in":60)"), line_of("run_heartbeat", "r")});
    settle();
    age();
  }
  void age() { execute("UPDATE council_ex_runs SET last_event_at = '2020-01-01T00:00:00Z'"); }
  bool renewed() const { return count("runs", "last_event_at > '2021-01-01T00:00:00Z'") == 1; }
  void beat(const std::string& more = {}) {
    append({line_of("run_heartbeat", "r", more)});
    settle();
  }
};

TEST_P(RecordedHeartbeats, RenewARowWithoutAnEntryInItsHistory) {
  begin(0ms);
  beat(R"("expires_in":90)");
  EXPECT_TRUE(renewed());
  EXPECT_EQ(row("r").expires_in, 90);
  EXPECT_EQ(row("r").last_seq, 1);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied"));
  EXPECT_EQ(status().ledger.applied, 3U);
  expect_identity();
}

TEST_P(RecordedHeartbeats, ThatComeSoonAfterAnotherAreOnlyRemembered) {
  begin(24h);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_FALSE(recorder_->beat_since("x", {}));
  beat();
  EXPECT_FALSE(renewed());
  EXPECT_TRUE(recorder_->beat_since("r", before));
  EXPECT_EQ(status().ledger.applied, 3U);
  expect_identity();
  beat(R"("progress":{"done":1,"total":2})");
  EXPECT_TRUE(renewed());
  EXPECT_EQ(count("run_events"), 1U);
}

TEST_P(RecordedHeartbeats, ReviveARowThatWasMarkedMeanwhile) {
  begin(0ms);
  execute("UPDATE council_ex_runs SET status = 'stuck'");
  beat();
  EXPECT_EQ(row("r").status, Status::kRunning);
  EXPECT_THAT(history("r"),
              ElementsAre("1 run_started applied", "2 run_heartbeat revived", "3 run_revived recorded"));
  expect_identity();
}

TEST_P(RecordedHeartbeats, ReviveARowThatWasMarkedAfterNoHeartbeatWasFound) {
  begin(24h);
  EXPECT_FALSE(recorder_->beat_since("r", std::chrono::steady_clock::now()));
  execute("UPDATE council_ex_runs SET status = 'stuck'");
  beat();
  EXPECT_EQ(row("r").status, Status::kRunning);
}

TEST_P(RecordedHeartbeats, LeaveAFinishedRowAlone) {
  begin(0ms);
  execute("UPDATE council_ex_runs SET status = 'completed'");
  beat();
  EXPECT_EQ(row("r").status, Status::kCompleted);
  EXPECT_FALSE(renewed());
  EXPECT_EQ(status().ledger.applied, 3U);
  expect_identity();
}

TEST_P(RecordedHeartbeats, OfManyRunsGoBesideTheirEvents) {
  recorder_options_.heartbeat_every = 0ms;
  start();
  std::vector<std::string> lines;
  for (int i = 0; i < 600; ++i) lines.push_back(line_of("run_heartbeat", "r" + std::to_string(i)));
  append(lines);
  settle();
  age();
  for (int i = 0; i < 300; ++i) lines.push_back(line_of("run_completed", "r" + std::to_string(i)));
  append(lines);
  settle();
  EXPECT_EQ(count("runs", "status = 'completed'"), 300U);
  EXPECT_EQ(count("runs", "status = 'running' AND last_event_at > '2021-01-01T00:00:00Z'"), 300U);
  EXPECT_EQ(count("run_events"), 900U);
  EXPECT_EQ(status().ledger.applied, 1'500U);
  expect_identity();
}

TEST_P(RecordedHeartbeats, KeepTheWorkerThatOneOfThemNamed) {
  begin(0ms);
  execute("UPDATE council_ex_runs SET worker_process = 'm:b:n:1:1'");
  beat();
  append({line_of("step", "r")});
  settle();
  EXPECT_EQ(row("r").worker_process, "m:b:n:1:1");
}

TEST_P(RecordedHeartbeats, UsageCountsOnceHoweverOftenItIsSent) {
  start();
  const std::vector<std::string> lines{line_of("run_heartbeat", "r", R"("id":"a","usage":{"n":0.1})"),
                                       line_of("run_heartbeat", "r", R"("id":"b","usage":{"n":0.2,"m":1})"),
                                       line_of("run_completed", "r", R"("id":"c","usage":{"n":1})")};
  append(lines);
  settle();
  append(lines);
  settle();
  restart();
  append(lines);
  settle();
  EXPECT_TRUE(json_equal(row("r").usage.value_or("{}"), R"({"n":1.3,"m":1})")) << row("r").usage.value_or("none");
  EXPECT_EQ(status().ledger.duplicate, 6U);
  expect_identity();
}

TEST_P(RecordedHeartbeats, AFindingOfASendersIsCorrectedByTheOutcome) {
  start();
  append({line_of("run_started", "r"), line_of("run_lost", "r", R"("message":"gone")")});
  settle();
  EXPECT_EQ(row("r").status, Status::kStuck);
  EXPECT_TRUE(
      json_equal(*row("r").error, R"({"kind":"stuck","reason":"reported_lost","message":"gone","evidence":{}})"));
  append({line_of("run_completed", "r", R"("result":1)")});
  settle();
  EXPECT_EQ(row("r").status, Status::kCompleted);
  EXPECT_EQ(row("r").error, std::nullopt);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_lost applied", "3 run_completed revived",
                                        "4 run_revived recorded"));
}

TEST_P(RecordedHeartbeats, AFindingOfASendersBelongsToNoPass) {
  start();
  append({line_of("run_started", "r")});
  settle();
  execute("UPDATE council_ex_runs SET stuck_pass = 'p'");
  restart();
  append({line_of("run_lost", "r")});
  settle();
  EXPECT_EQ(row("r").stuck_pass, "");
}

class JobStates : public RecorderFixture {
 protected:
  void begin() {
    make_lite_queue();
    QueueOptions queue;
    queue.url = url();
    make_recorder(make_oban_queue(queue));
    start();
  }
};

TEST_P(JobStates, FromTheSenderWinsOverTheQueues) {
  begin();
  put_job(7, "executing");
  append({line_of("run_started", "r", R"("oban_job_id":7)"), line_of("run_started", "s", R"("oban_job_id":7)")});
  append({line_of("run_completed", "r", R"("job_state":"completed")"), line_of("run_completed", "s")});
  settle();
  EXPECT_EQ(row("r").oban_job_state_at_finalize, "completed");
  EXPECT_EQ(row("s").oban_job_state_at_finalize, "executing");
}

TEST_P(JobStates, IgnoreALaterAttempt) {
  begin();
  put_job(7, "executing", 2);
  append({line_of("run_started", "r", R"("oban_job_id":7,"attempt":1)"), line_of("run_failed", "r")});
  append({line_of("run_started", "s", R"("oban_job_id":7,"attempt":2)"), line_of("run_failed", "s")});
  settle();
  EXPECT_EQ(row("r").oban_job_state_at_finalize, std::nullopt);
  EXPECT_EQ(row("s").oban_job_state_at_finalize, "executing");
}

INSTANTIATE_TEST_SUITE_P(Databases, RecordedHeartbeats,
                         ::testing::Values(DatabaseKind::kSqlite, DatabaseKind::kPostgres), name_of);
INSTANTIATE_TEST_SUITE_P(Sqlite, JobStates, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
