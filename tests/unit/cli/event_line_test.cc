#include "cli/event_line.h"

#include <gtest/gtest.h>

#include <set>

#include "cli/json_object.h"

namespace run_recorder {
namespace {

const Completion kWorker{.worker_pid = 4711};

TEST(CompletedLine, GetsAnIdAndAWorkerAndIsOtherwiseUntouched) {
  EventIds ids;
  const std::string line = R"(  { "type":"run_started",  "run_id":"r1", "input": 1.0000000000000000000001e0 })";
  const std::string completed = completed_line(line, kWorker, ids);
  const JsonObject object(completed);
  EXPECT_FALSE(object.text("id").empty());
  EXPECT_EQ(object.integer("worker_pid"), 4711);
  EXPECT_EQ(object.raw("input"), "1.0000000000000000000001e0");
  EXPECT_TRUE(completed.ends_with(line.substr(3))) << completed;
}

TEST(CompletedLine, KeepsWhatWasGivenEvenNull) {
  EventIds ids;
  for (const std::string line : {R"({"id":"mine","worker_pid":5,"type":"x","run_id":"r"})",
                                 R"({"id":null,"worker_pid":null,"type":"x","run_id":"r"})"}) {
    EXPECT_EQ(completed_line(line, kWorker, ids), line);
  }
}

TEST(CompletedLine, GetsNoWorkerForAQueuedRunOrWithoutACaller) {
  EventIds ids;
  EXPECT_EQ(JsonObject(completed_line(R"({"type":"run_queued","run_id":"r"})", kWorker, ids)).raw("worker_pid"), "");
  EXPECT_EQ(JsonObject(completed_line(R"({"type":"run_started","run_id":"r"})", {}, ids)).raw("worker_pid"), "");
}

TEST(CompletedLine, GivesAGuessedWorkerOnlyWhereItIsTheRunsWorker) {
  EventIds ids;
  const Completion named{.worker_pid = 4711, .vouched_run_id = "inner"};
  Completion guessed = named;
  guessed.worker_is_guessed = true;
  const auto worker = [&](const std::string& line, const Completion& completion) {
    return JsonObject(completed_line(line, completion, ids)).integer("worker_pid");
  };
  EXPECT_EQ(worker(R"({"type":"run_started","run_id":"other"})", guessed), 4711);
  for (const std::string line :
       {R"({"type":"run_heartbeat","run_id":"other"})", R"({"type":"run_lost","run_id":"other"})",
        R"({"type":"tick","run_id":"inner"})", R"({"type":"tick","run_id":"\u0069nner"})"}) {
    EXPECT_EQ(worker(line, guessed), std::nullopt) << line;
    EXPECT_EQ(worker(line, named), 4711) << line;
  }
}

TEST(CompletedLine, LeavesWhatIsNoObjectToTheDaemon) {
  EventIds ids;
  for (const std::string line :
       {"not json", "[1]", "\"x\"", "{\"a\":1", "{\"a\":1,\"a\":2}", "{\"a\":\"\\u0000\"}"}) {
    EXPECT_EQ(completed_line(line, kWorker, ids), line);
  }
}

TEST(CompletedLine, AnEmptyObjectStaysValid) {
  EventIds ids;
  const std::string completed = completed_line("{}", kWorker, ids);
  ASSERT_EQ(scan_json(completed, 4).problem, JsonProblem::kNone) << completed;
  EXPECT_EQ(scan_json(completed, 4).members.size(), 2U);
}

TEST(EventIds, NeverRepeat) {
  EventIds a, b;
  std::set<std::string> seen;
  for (int i = 0; i < 1'000; ++i) {
    EXPECT_TRUE(seen.insert(a.next()).second);
    EXPECT_TRUE(seen.insert(b.next()).second);
  }
  EXPECT_LE(a.next().size(), 64U);
}

TEST(EventLine, NewlinesBetweenTokensBecomeSpaces) {
  EventLine line;
  line.text("a", "x\ny").json("b", "[1,\r\n2]");
  EXPECT_EQ(line.str(), R"({"a":"x\ny","b":[1,  2]})");
}

}  // namespace
}  // namespace run_recorder
