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
  made.spool.failed = true;
  made.spool.failure = "disk on fire";
  EXPECT_THAT(status_sentence(made), HasSubstr("not ingesting: the spool failed: disk on fire"));
}

TEST(NotReady, NamesWhyNoEventWouldBeAccepted) {
  Snapshot made = snapshot();
  EXPECT_EQ(not_ready(made), "");
  made.spool.pending_bytes = 1'000;
  EXPECT_EQ(not_ready(made), "the spool is full");
  made.spool.pending_bytes = 0;
  made.disk_full = true;
  EXPECT_NE(not_ready(made).find("min_free"), std::string::npos);
  made.server.spool_failure = "no space";
  EXPECT_EQ(not_ready(made), "no space");
}

}  // namespace
}  // namespace run_recorder::testing
