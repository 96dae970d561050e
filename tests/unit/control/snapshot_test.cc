// What the daemon says of itself: status, metrics, a sentence.
#include "control/snapshot.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

Snapshot snapshot() {
  Snapshot made;
  made.version = "0.1.0";
  made.recorder_id = "rec";
  made.host = "host-1";
  made.started_at = parse_rfc3339("2026-03-01T12:00:00Z").value();
  made.now = made.started_at + 1h;
  made.database_url = "sqlite:/x";
  made.spool_max_bytes = 1'000;
  made.recorder.ledger = {.applied = 5, .duplicate = 4, .dead_letters = 2, .dead_letters_removed = 1, .conflicts = 3};
  made.recorder.waiting = 7;
  made.recorder.accepted = 19;
  made.recorder.database = DatabaseState::kUp;
  made.recorder.batch_sizes.assign(kBatchBounds.size() + 1, 0);
  made.server.excluded = 6;
  return made;
}

PassReport report() {
  PassReport made;
  made.pass_id = "p1";
  made.trigger = "boot";
  made.examined = 3;
  made.stuck = 2;
  made.alive = 1;
  made.marked = 2;
  made.reasons = {{"process_gone", 2}};
  return made;
}

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
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_watched_processes 3\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_watched_processes_limit 10\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_unwatched_processes_total 2\n"));
}

TEST(StatusSentence, SaysWhatMatters) {
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

TEST(MetricsText, HasAHelpAndATypeBeforeEveryFamilyAndEachOnce) {
  Snapshot made = snapshot();
  made.reconciler.last = report();
  made.reconciler.last_good_at = made.now - 3min;
  made.reconciler.findings = {{"process_gone", 2}};
  made.recorder.errors = {{"23505", 1}};
  made.server.types = {{"run_started", 3}, {"odd\"\\\nname", 1}};
  made.reconciler.runs_by_status = {{Status::kRunning, 4}};
  std::istringstream text(metrics_text(made));
  const std::regex sample(
      R"(^(run_recorder_[a-z_]+?)(_bucket|_sum|_count)?(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? [-+.e0-9]+$)");
  std::set<std::string> families;
  std::string family;
  std::string line;
  while (std::getline(text, line)) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family << " comes twice";
      ASSERT_TRUE(std::getline(text, line));
      EXPECT_TRUE(line.starts_with("# TYPE " + family + " ")) << line;
      continue;
    }
    EXPECT_TRUE(std::regex_match(line, sample)) << line;
    EXPECT_TRUE(line.starts_with(family)) << line << " in " << family;
  }
  for (const char* name :
       {"ledger_events", "dead_letters", "spool_bytes", "database_up", "batch_events", "reconciliations_total",
        "findings_total", "ack_latency_seconds", "runs", "spool_oldest_age_seconds"}) {
    EXPECT_TRUE(families.contains(std::string("run_recorder_") + name)) << name;
  }
}

TEST(MetricsText, CountsHistogramsCumulatively) {
  Snapshot made = snapshot();
  made.server.ack_buckets[0] = 2;
  made.server.ack_buckets[1] = 3;
  made.server.ack_buckets.back() = 1;
  const std::string text = metrics_text(made);
  EXPECT_THAT(text, HasSubstr("ack_latency_seconds_bucket{le=\"+Inf\"} 6\n"));
  EXPECT_THAT(text, HasSubstr("ack_latency_seconds_count 6\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_ledger_events{account=\"accepted\"} 19\n"));
}

}  // namespace
}  // namespace run_recorder::testing
