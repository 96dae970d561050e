// What the daemon says of itself: status, a sentence.
#include "control/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "snapshot_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(StatusJson, HoldsTheLedgerSoThatItAddsUp) {
  const auto status = nlohmann::json::parse(status_json(snapshot()));
  EXPECT_EQ(status["accepted"], 19);
  std::uint64_t sum = 0;
  for (const char* account : {"applied", "duplicate", "waiting", "dead_letters", "dead_letters_removed"}) {
    sum += status.at(account).get<std::uint64_t>();
  }
  EXPECT_EQ(sum, 19U);
  EXPECT_EQ(status["excluded"], 6);
  EXPECT_EQ(status["conflicts"], 3);
  EXPECT_EQ(status["recorder"], "rec");
  EXPECT_EQ(status["started_at"], "2026-03-01T12:00:00.000000Z");
}

TEST(StatusJson, SaysHowTheDatabaseIs) {
  Snapshot made = snapshot();
  EXPECT_EQ(nlohmann::json::parse(status_json(made))["database"]["state"], "up");
  EXPECT_TRUE(nlohmann::json::parse(status_json(made))["database"]["error"].is_null());
  made.recorder.database = DatabaseState::kAway;
  made.recorder.database_error = "no \xff route \"there\"";
  const auto database = nlohmann::json::parse(status_json(made))["database"];
  EXPECT_EQ(database["state"], "away");
  EXPECT_THAT(database["error"].get<std::string>(), HasSubstr("route \"there\""));
}

TEST(StatusJson, SaysHowTheLastReconciliationWas) {
  Snapshot made = snapshot();
  EXPECT_TRUE(nlohmann::json::parse(status_json(made))["reconciliation"]["last"].is_null());
  made.reconciler.last = report();
  const auto last = nlohmann::json::parse(status_json(made))["reconciliation"]["last"];
  EXPECT_EQ(last["stuck"], 2);
  EXPECT_EQ(last["reasons"]["process_gone"], 2);
}

TEST(StatusJson, SaysHowManyProcessesAreWatched) {
  Snapshot made = snapshot();
  made.processes = {.max = 10, .watched = 3, .ended = 4, .unwatched = 2};
  const auto processes = nlohmann::json::parse(status_json(made))["processes"];
  EXPECT_EQ(processes["watched"], 3);
  EXPECT_EQ(processes["limit"], 10);
  EXPECT_EQ(processes["unwatched"], 2);
}

TEST(StatusSentence, NamesBacklogDeadLettersReconciliationAndDatabase) {
  Snapshot made = snapshot();
  EXPECT_EQ(status_sentence(made), "ingesting; 7 in spool; 2 dead letters; no reconciliation yet");
  made.recorder.ledger.dead_letters = 0;
  made.reconciler.last = report();
  made.reconciler.last_good_at = made.now - 3min;
  EXPECT_EQ(status_sentence(made), "ingesting; 7 in spool; last reconciliation 3 min ago: 2 stuck");
  made.recorder.database = DatabaseState::kAway;
  EXPECT_THAT(status_sentence(made), HasSubstr("the database is away"));
  made.recorder.database = DatabaseState::kRefused;
  EXPECT_THAT(status_sentence(made), HasSubstr("the database refuses this daemon"));
  made.acceptance.state = Acceptance::State::kRefusing;
  made.acceptance.reason = Acceptance::Reason::kFailed;
  made.acceptance.failure = "disk on fire";
  EXPECT_THAT(status_sentence(made), HasSubstr("not ingesting: the spool failed: disk on fire"));
}

Snapshot too_little_disk() {
  Snapshot made = snapshot();
  made.acceptance.state = Acceptance::State::kRefusing;
  made.acceptance.reason = Acceptance::Reason::kMinFree;
  made.acceptance.since = made.now - 1min;
  made.acceptance.room.path = "/spool";
  made.acceptance.room.pending_bytes = 10;
  made.acceptance.room.allowed_bytes = 900;
  made.acceptance.room.free_bytes = 1'024;
  made.acceptance.room.min_free = 2'048;
  return made;
}

TEST(StatusJson, SaysWhetherEventsAreAcceptedAndWhyNot) {
  auto accepting = nlohmann::json::parse(status_json(snapshot()))["accepting"];
  EXPECT_EQ(accepting["state"], "accepting");
  for (const char* name : {"reason", "message", "limit", "free_bytes"})
    EXPECT_TRUE(accepting[name].is_null()) << name;
  accepting = nlohmann::json::parse(status_json(too_little_disk()))["accepting"];
  EXPECT_EQ(accepting, nlohmann::json::parse(R"({"state": "refusing", "reason": "min_free",
    "message": "too little disk: 1 KiB free under /spool, [spool] min_free is 2 KiB", "limit": "[spool] min_free",
    "since": "2026-03-01T12:59:00.000000Z", "path": "/spool", "bytes": 10, "allowed_bytes": 900, "max_bytes": 1000,
    "free_bytes": 1024, "min_free": 2048, "disk_low": false})"));
}

TEST(StatusJson, SaysWhetherMetricsAreServedOverTcp) {
  Snapshot made = snapshot();
  EXPECT_EQ(nlohmann::json::parse(status_json(made))["metrics"]["state"], "off");
  made.http.metrics_listening.listen = "127.0.0.1:9464";
  EXPECT_EQ(nlohmann::json::parse(status_json(made))["metrics"]["state"], "listening");
  made.http.metrics_listening.error = "cannot listen";
  const auto metrics = nlohmann::json::parse(status_json(made))["metrics"];
  EXPECT_EQ(metrics["listen"], "127.0.0.1:9464");
  EXPECT_EQ(metrics["state"], "not_listening");
  EXPECT_EQ(metrics["error"], "cannot listen");
  EXPECT_THAT(status_sentence(made), HasSubstr("; metrics are not served: cannot listen"));
}

TEST(StatusSentence, SaysWhichEventsAreRefusedAndWhy) {
  Snapshot made = too_little_disk();
  EXPECT_THAT(status_sentence(made), StartsWith("not ingesting: too little disk: 1 KiB free under /spool"));
  made.acceptance.state = Acceptance::State::kLifecycleOnly;
  made.acceptance.reason = Acceptance::Reason::kMaxBytes;
  EXPECT_THAT(status_sentence(made), StartsWith("ingesting lifecycle events only: the spool is full but for"));
  made.acceptance.state = Acceptance::State::kAccepting;
  made.acceptance.disk_low = true;
  EXPECT_THAT(status_sentence(made), StartsWith("ingesting; the disk runs low: 1 KiB free under /spool"));
}

TEST(StatusSentence, NamesARefusedReload) {
  Snapshot made = snapshot();
  EXPECT_TRUE(nlohmann::json::parse(status_json(made))["reload_refused"].is_null());
  made.reload_refused = "line 3: bad";
  EXPECT_EQ(nlohmann::json::parse(status_json(made))["reload_refused"], "line 3: bad");
  EXPECT_THAT(status_sentence(made), HasSubstr("; reload refused: line 3: bad;"));
}

}  // namespace
}  // namespace run_recorder::testing
