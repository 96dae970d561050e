// Every endpoint of the control API, and what it says to a request that is wrong.
#include "control/api.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "control_fixture.h"

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

class ControlApi : public ControlFixture {};
class ControlApiOnSqlite : public ControlFixture {};

std::vector<std::string> values(const nlohmann::json& list, const std::string& name) {
  std::vector<std::string> texts;
  for (const auto& item : list) texts.push_back(item.at(name));
  return texts;
}

// ---- health, status, metrics

TEST_P(ControlApi, SaysThatItIsHealthyAndReady) {
  EXPECT_EQ(got("/healthz")["status"], "ok");
  EXPECT_EQ(got("/readyz")["status"], "ok");
  acceptance_.state = Acceptance::State::kRefusing;
  acceptance_.reason = Acceptance::Reason::kMinFree;
  EXPECT_EQ(got("/healthz")["status"], "ok");
  EXPECT_EQ(refused("/readyz"), "503 unavailable");
}

TEST_P(ControlApi, IsReadyWhileRunsCanBeginAndEndAndSaysThatTheRestIsRefused) {
  acceptance_.state = Acceptance::State::kLifecycleOnly;
  acceptance_.reason = Acceptance::Reason::kMaxBytes;
  const auto ready = got("/readyz");
  EXPECT_EQ(ready["status"], "lifecycle_only");
  EXPECT_THAT(ready["reason"].get<std::string>(), HasSubstr("the spool is full but for lifecycle events"));
}

TEST_P(ControlApi, GivesStatusAndMetrics) {
  EXPECT_EQ(got("/v1/status")["waiting"], 0);
  const ApiAnswer metrics = get("/metrics");
  EXPECT_EQ(metrics.status, 200U);
  EXPECT_THAT(metrics.content_type, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_EQ(metrics.body, "run_recorder_up 1\n");
}

// ---- runs

TEST_P(ControlApi, ListsRunsNewestFirstWithoutInputAndResult) {
  append({line_of("run_started", "a", R"("council":"x","input":{"big":1})")});
  settle();
  append({line_of("run_completed", "b", R"("result":{"big":1})")});
  settle();
  const auto list = got("/v1/runs");
  EXPECT_THAT(values(list["runs"], "run_id"), ElementsAre("b", "a"));
  EXPECT_TRUE(list["next"].is_null());
  const auto run = list["runs"][1];
  EXPECT_FALSE(run.contains("input"));
  EXPECT_FALSE(run.contains("result"));
  EXPECT_EQ(run["council"], "x");
  EXPECT_EQ(run["status"], "running");
  EXPECT_EQ(run["attempt"], 1);
  EXPECT_TRUE(run["finalized_at"].is_null());
  std::vector<std::string> names;
  for (const auto& [name, value] : run.items()) names.push_back(name);
  EXPECT_THAT(names, IsSupersetOf({"run_id", "council", "status", "attempt", "parent_attempt_run_id", "oban_job_id",
                                   "oban_job_state_at_finalize", "error", "started_at", "finalized_at", "inserted_at",
                                   "updated_at", "queue", "job_id", "expires_in", "usage", "progress"}));
  for (const char* column : {"queue", "job_id", "expires_in", "usage", "progress"}) {
    EXPECT_TRUE(run[column].is_null()) << column;
  }
}

TEST_P(ControlApi, FiltersRuns) {
  append({line_of("run_started", "a", R"("council":"x","oban_job_id":7)"),
          line_of("run_started", "b", R"("council":"y z")"), line_of("run_completed", "c"),
          line_of("run_queued", "d")});
  settle();
  EXPECT_THAT(values(got("/v1/runs?status=running,queued")["runs"], "run_id"), ElementsAre("d", "b", "a"));
  EXPECT_THAT(values(got("/v1/runs?status=completed")["runs"], "run_id"), ElementsAre("c"));
  EXPECT_THAT(values(got("/v1/runs?status=running&status=completed")["runs"], "run_id"), ElementsAre("c", "b", "a"));
  EXPECT_THAT(values(got("/v1/runs?council=y+z")["runs"], "run_id"), ElementsAre("b"));
  EXPECT_THAT(values(got("/v1/runs?council=y%20z")["runs"], "run_id"), ElementsAre("b"));
  EXPECT_THAT(values(got("/v1/runs?oban_job_id=7")["runs"], "run_id"), ElementsAre("a"));
  EXPECT_THAT(values(got("/v1/runs?job=7")["runs"], "run_id"), ElementsAre("a"));
  EXPECT_EQ(got("/v1/runs?job=seven%207")["runs"].size(), 0U);
  EXPECT_THAT(values(got("/v1/runs?queue=default&job=7")["runs"], "run_id"), ElementsAre("a"));
  EXPECT_EQ(got("/v1/runs?queue=other")["runs"].size(), 0U);
  EXPECT_EQ(got("/v1/runs?since=2020-01-01T00:00:00%2B02:00")["runs"].size(), 4U);
  EXPECT_EQ(got("/v1/runs?since=2020-01-01T00:00:00+02:00")["runs"].size(), 4U);
  EXPECT_EQ(got("/v1/runs?until=2020-01-01T00:00:00.5+02:00")["runs"].size(), 0U);
  EXPECT_THAT(get("/v1/runs?since=2020-01-01T00:00:00 2:00").body, HasSubstr("%2B"));
  EXPECT_EQ(got("/v1/runs?since=9999-01-01T00:00:00Z")["runs"].size(), 0U);
  EXPECT_EQ(got("/v1/runs?pass=none")["runs"].size(), 0U);
  EXPECT_THAT(values(got("/v1/runs?status=running&council=x&limit=1")["runs"], "run_id"), ElementsAre("a"));
}

TEST_P(ControlApi, PagesThroughRuns) {
  for (int i = 0; i < 7; ++i) append({line_of("run_started", "r" + std::to_string(i))});
  settle();
  std::vector<std::string> all;
  std::string cursor;
  int pages = 0;
  do {
    const auto page = got("/v1/runs?limit=3" + cursor);
    for (const std::string& id : values(page["runs"], "run_id")) all.push_back(id);
    cursor = page["next"].is_null() ? "" : "&cursor=" + page["next"].get<std::string>();
    ++pages;
  } while (!cursor.empty());
  EXPECT_EQ(pages, 3);
  std::ranges::sort(all);
  EXPECT_THAT(all, ElementsAre("r0", "r1", "r2", "r3", "r4", "r5", "r6"));
}

TEST_P(ControlApi, RefusesParametersThatAreWrong) {
  for (const char* target : {"/v1/runs?limit=0",
                             "/v1/runs?limit=1001",
                             "/v1/runs?limit=-1",
                             "/v1/runs?limit=ten",
                             "/v1/runs?limit=",
                             "/v1/runs?limit=5x",
                             "/v1/runs?status=running,",
                             "/v1/runs?status=done",
                             "/v1/runs?oban_job_id=x",
                             "/v1/runs?oban_job_id=9223372036854775808",
                             "/v1/runs?since=yesterday",
                             "/v1/runs?since=2026-01-01",
                             "/v1/runs?colour=red",
                             "/v1/runs?cursor=nonsense",
                             "/v1/runs?council=%zz",
                             "/v1/runs?council=%2",
                             "/v1/runs?council=%ff",
                             "/v1/runs?council=a%00b",
                             "/v1/runs/a%00b",
                             "/v1/runs/%",
                             "/v1/runs/r/events?limit=0",
                             "/v1/runs/r/events?since=x",
                             "/v1/reconciliations?limit=x",
                             "/v1/dead-letters?limit=x",
                             "runs",
                             ""}) {
    EXPECT_EQ(refused(target), "400 invalid") << target;
  }
}

TEST_P(ControlApi, NamesTheParameterAndWhatIsAllowed) {
  EXPECT_THAT(get("/v1/runs?limit=0").body,
              HasSubstr(R"(limit: invalid value \"0\": must be a number from 1 to 1000")"));
  EXPECT_THAT(get("/v1/runs?colour=red").body,
              HasSubstr(R"(unknown parameter \"colour\": must be status, council,)"));
  EXPECT_THAT(get("/v1/runs?status=done").body, HasSubstr("done"));
}

TEST_P(ControlApi, ShowsARunWithNumbersAsTheyCame) {
  append({line_of("run_started", "r", R"("input":{"n":12345678901234567890.10,"e":1e300})"),
          line_of("run_completed", "r", R"("result":0.1000)")});
  settle();
  const ApiAnswer answer = get("/v1/runs/r");
  EXPECT_THAT(answer.body, HasSubstr("12345678901234567890.10"));
  EXPECT_THAT(answer.body, HasSubstr("0.1000"));
  const auto run = object_of(answer);
  EXPECT_EQ(run["status"], "completed");
  EXPECT_TRUE(run.contains("input"));
}

TEST_P(ControlApi, TakesAnyRunIdPercentEncoded) {
  append({line_of("run_started", "a/b c%?&é", R"("council":"x")"), line_of("run_started", "a+b")});
  settle();
  const std::string encoded = "a%2Fb%20c%25%3F%26%C3%A9";
  EXPECT_EQ(got("/v1/runs/" + encoded)["run_id"], "a/b c%?&é");
  EXPECT_EQ(got("/v1/runs/" + encoded + "/events")["events"].size(), 1U);
  EXPECT_EQ(got("/v1/runs/" + encoded + "/chain")["runs"].size(), 1U);
  EXPECT_EQ(got("/v1/runs/" + encoded + "/explain")["run_id"], "a/b c%?&é");
  EXPECT_EQ(got("/v1/runs/a+b")["run_id"], "a+b") << "a plus is itself in a path";
}

TEST_P(ControlApi, ListsTheEventsOfARun) {
  append({line_of("run_started", "r", R"("id":"e1","at":"2026-02-03T04:05:06+01:00")"),
          line_of("step", "r", R"("payload":{"n":1.50})"), line_of("step", "r"), line_of("run_completed", "r")});
  settle();
  const ApiAnswer answer = get("/v1/runs/r/events");
  EXPECT_THAT(answer.body, HasSubstr("1.50"));
  const auto list = object_of(answer);
  ASSERT_EQ(list["events"].size(), 4U);
  const auto first = list["events"][0];
  EXPECT_EQ(first["run_id"], "r");
  EXPECT_EQ(first["seq"], 1);
  EXPECT_EQ(first["type"], "run_started");
  EXPECT_EQ(first["event_id"], "e1");
  EXPECT_EQ(first["at"], "2026-02-03T03:05:06.000000Z");
  EXPECT_EQ(first["received_at"], "2026-03-01T12:00:00.000000Z");
  EXPECT_EQ(first["effect"], "applied");
  EXPECT_EQ(first["peer_uid"], 1'000);
  EXPECT_EQ(first["peer_pid"], 4'711);
  EXPECT_EQ(first["recorder"], spool_->id());
  const auto page = got("/v1/runs/r/events?limit=3");
  EXPECT_EQ(page["events"].size(), 3U);
  const auto rest = got("/v1/runs/r/events?limit=3&cursor=" + page["next"].get<std::string>());
  EXPECT_EQ(rest["events"][0]["seq"], 4);
  EXPECT_TRUE(rest["next"].is_null());
}

TEST_P(ControlApi, ListsAChainFromTheRootDown) {
  append({line_of("run_failed", "a1"), line_of("run_started", "a2", R"("attempt":2,"parent_attempt_run_id":"a1")"),
          line_of("run_started", "a3", R"("attempt":3,"parent_attempt_run_id":"a2")"),
          line_of("run_started", "other")});
  settle();
  for (const char* run_id : {"a1", "a2", "a3"}) {
    EXPECT_THAT(values(got(fmt::format("/v1/runs/{}/chain", run_id))["runs"], "run_id"),
                ElementsAre("a1", "a2", "a3"));
  }
}

TEST_P(ControlApi, SaysWhetherAChainIsCut) {
  constexpr int kAttempts = 1'001;
  std::vector<std::string> lines{line_of("run_started", "r0")};
  for (int i = 1; i < kAttempts - 1; ++i) {
    lines.push_back(
        line_of("run_started", fmt::format("r{}", i), fmt::format(R"("parent_attempt_run_id":"r{}")", i - 1)));
  }
  append(lines);
  settle();
  const auto whole = got("/v1/runs/r0/chain");
  EXPECT_EQ(whole["runs"].size(), 1'000U);
  EXPECT_EQ(whole["truncated"], false);
  append({line_of("run_started", "last", R"("parent_attempt_run_id":"r999")")});
  settle();
  const auto cut = got("/v1/runs/r0/chain");
  EXPECT_EQ(cut["runs"].size(), 1'000U);
  EXPECT_EQ(cut["truncated"], true);
  EXPECT_EQ(got("/v1/runs/last/chain")["runs"].back()["run_id"], "last");
}

TEST_P(ControlApi, AnswersAnUnknownRunWithNotFound) {
  for (const char* target :
       {"/v1/runs/none", "/v1/runs/none/events", "/v1/runs/none/chain", "/v1/runs/none/explain"}) {
    EXPECT_EQ(refused(target), "404 not_found") << target;
    EXPECT_THAT(get(target).body, HasSubstr("none"));
  }
}

TEST_P(ControlApi, AnswersAnUnknownPathWithNotFound) {
  for (const char* target : {"/", "/v1", "/v2/runs", "/v1/nothing", "/v1/runs/r/inputs", "/v1/runs/r/events/1",
                             "/v1/status/x", "/v1/reconcile/x", "/v1/reconciliations/p", "/v1/reconciliations/p/redo",
                             "/v1/dead-letters/x", "/v1/dead-letters/1/x", "/healthz/x", "/nothing?x=1"}) {
    EXPECT_EQ(refused(target), "404 not_found") << target;
  }
}

TEST_P(ControlApi, SaysWhichMethodIsAllowed) {
  const struct {
    const char* method;
    const char* target;
    const char* allow;
  } kCases[] = {
      {"POST", "/healthz", "GET"},
      {"POST", "/metrics", "GET"},
      {"DELETE", "/v1/status", "GET"},
      {"POST", "/v1/runs", "GET"},
      {"DELETE", "/v1/runs/r", "GET"},
      {"PUT", "/v1/runs/r/events", "GET"},
      {"GET", "/v1/reconcile", "POST"},
      {"POST", "/v1/reconciliations", "GET"},
      {"GET", "/v1/reconciliations/p/undo", "POST"},
      {"POST", "/v1/dead-letters", "GET"},
      {"GET", "/v1/dead-letters/1/retry", "POST"},
      {"POST", "/v1/dead-letters/1", "GET, DELETE"},
  };
  for (const auto& one : kCases) {
    const ApiAnswer answer = ask(one.method, one.target);
    EXPECT_EQ(error_of(answer), "405 method_not_allowed") << one.method << " " << one.target;
    ASSERT_TRUE(answer.headers.contains("Allow")) << one.target;
    EXPECT_EQ(answer.headers.at("Allow"), one.allow);
  }
}

// ---- reconciling

TEST_P(ControlApi, ReconcilesOnRequest) {
  append({line_of("run_started", "r", R"("council":"demo")")});
  settle();
  execute("UPDATE council_ex_runs SET last_event_at = '2026-01-01T00:00:00.000000Z'");
  const auto dry = object_of(ask("POST", "/v1/reconcile", R"({"dry_run":true,"unvouched":true})"));
  EXPECT_EQ(dry["dry_run"], true);
  EXPECT_EQ(dry["stuck"], 1);
  EXPECT_EQ(dry["marked"], 0);
  EXPECT_EQ(got("/v1/runs/r/explain")["reason"], "silent");
  const auto report = object_of(ask("POST", "/v1/reconcile?unvouched=true"));
  EXPECT_EQ(report["marked"], 1);
  EXPECT_EQ(report["runs"][0]["reason"], "no_live_worker");
  const std::string pass = report["pass_id"];
  EXPECT_THAT(values(got("/v1/runs?pass=" + pass)["runs"], "run_id"), ElementsAre("r"));

  const auto list = got("/v1/reconciliations");
  EXPECT_THAT(values(list["reconciliations"], "pass_id"), ElementsAre(pass, dry["pass_id"]));
  EXPECT_EQ(list["reconciliations"][0]["report"]["marked"], 1);
  EXPECT_EQ(list["reconciliations"][0]["trigger"], "request");
  const auto page = got("/v1/reconciliations?limit=1");
  EXPECT_THAT(values(got("/v1/reconciliations?limit=1&cursor=" + page["next"].get<std::string>())["reconciliations"],
                     "pass_id"),
              ElementsAre(dry["pass_id"]));

  const auto undone = object_of(ask("POST", "/v1/reconciliations/" + pass + "/undo"));
  EXPECT_EQ(undone["undone"], 1);
  EXPECT_EQ(undone["moved"], 0);
  EXPECT_EQ(got("/v1/runs/r")["status"], "running");
  EXPECT_EQ(error_of(ask("POST", "/v1/reconciliations/none/undo")), "404 not_found");
}

TEST_P(ControlApi, RefusesARequestForAPassThatIsWrong) {
  for (const char* body : {"[]", "1", "{", R"({"dry_run":1})", R"({"dry-run":true})", R"({"force":null})", "\xff"}) {
    EXPECT_EQ(error_of(ask("POST", "/v1/reconcile", body)), "400 invalid") << body;
  }
  EXPECT_EQ(error_of(ask("POST", "/v1/reconcile", std::string(60'000, '['))), "400 invalid");
  EXPECT_EQ(error_of(ask("POST", "/v1/reconcile?dry_run=maybe")), "400 invalid");
  EXPECT_EQ(error_of(ask("POST", "/v1/reconcile?force=")), "400 invalid");
  EXPECT_EQ(error_of(ask("POST", "/v1/reconcile?dry=true")), "400 invalid");
  EXPECT_EQ(count("reconciliations"), 0U);
  EXPECT_EQ(object_of(ask("POST", "/v1/reconcile", " \n"))["examined"], 0);
}

TEST_P(ControlApi, AnswersConflictWhileAnotherDaemonReconciles) {
  const auto store = open_store();
  ASSERT_TRUE(store->acquire_lease(kPassLease, "another", std::chrono::minutes{1}).value());
  EXPECT_EQ(error_of(ask("POST", "/v1/reconcile")), "409 conflict");
}

// ---- dead letters

TEST_P(ControlApi, ListsRetriesAndRemovesDeadLetters) {
  refuse_rows("run_events", "NEW.type = 'poison'");
  append({line_of("poison", "a", R"("id":"e1")"), line_of("poison", "b")});
  settle();
  const auto list = got("/v1/dead-letters");
  ASSERT_EQ(list["dead_letters"].size(), 2U);
  const auto letter = list["dead_letters"][0];
  EXPECT_EQ(letter["run_id"], "a");
  EXPECT_EQ(letter["type"], "poison");
  EXPECT_EQ(letter["event_id"], "e1");
  EXPECT_EQ(letter["line"], line_of("poison", "a", R"("id":"e1")"));
  EXPECT_THAT(letter["reason"].get<std::string>(), HasSubstr("not this one"));
  const std::string first = "/v1/dead-letters/" + letter["id"].dump();
  const std::string second = "/v1/dead-letters/" + list["dead_letters"][1]["id"].dump();
  EXPECT_EQ(got(first)["run_id"], "a");
  EXPECT_EQ(object_of(ask("POST", first + "/retry"))["outcome"], "dead");
  accept_rows("run_events");
  EXPECT_EQ(object_of(ask("POST", first + "/retry"))["outcome"], "applied");
  EXPECT_EQ(error_of(ask("POST", first + "/retry")), "404 not_found");
  EXPECT_EQ(object_of(ask("DELETE", second))["removed"], true);
  EXPECT_EQ(error_of(ask("DELETE", second)), "404 not_found");
  EXPECT_EQ(refused(second), "404 not_found");
  EXPECT_EQ(got("/v1/dead-letters")["dead_letters"].size(), 0U);
  EXPECT_EQ(got("/v1/runs/a")["status"], "running");
  expect_identity();
}

INSTANTIATE_TEST_SUITE_P(Control, ControlApi, ::testing::Values(DatabaseKind::kSqlite, DatabaseKind::kPostgres),
                         name_of);

// ---- reads and what is not applied yet

TEST_P(ControlApiOnSqlite, WaitsForWhatWasAcknowledgedBefore) {
  for (int i = 0; i < 20; ++i) {
    append({line_of("run_started", "r" + std::to_string(i))});
    const ApiAnswer answer = get("/v1/runs/r" + std::to_string(i));
    EXPECT_EQ(answer.status, 200U) << i;
    EXPECT_FALSE(answer.headers.contains("X-Run-Recorder-Pending"));
  }
}

TEST_P(ControlApiOnSqlite, CountsWhatIsNotAppliedYet) {
  append({line_of("run_started", "before")});
  settle();
  const auto other = SqliteConnection::open({.path = sqlite_path(url())}).value();
  other->begin_call();
  const auto writing = SqliteTransaction::begin(*other, SqliteTransaction::Mode::kWrite);
  ASSERT_TRUE(writing);  // nothing is applied meanwhile
  append({line_of("run_started", "a"), line_of("run_started", "b")});
  const ApiAnswer answer = get("/v1/runs");
  EXPECT_EQ(answer.status, 200U);
  ASSERT_TRUE(answer.headers.contains("X-Run-Recorder-Pending"));
  EXPECT_EQ(answer.headers.at("X-Run-Recorder-Pending"), "2");
  const ApiAnswer missing = get("/v1/runs/a");
  EXPECT_EQ(missing.status, 404U);
  EXPECT_THAT(missing.body, HasSubstr("there is no run a; 2 events acknowledged before are not applied yet"));
}

TEST_P(ControlApiOnSqlite, SaysThatTheDatabaseIsAway) {
  api_.reset();
  reconciler_.reset();
  stop();
  hide_database();
  open_spool();
  start();
  make_api();
  ASSERT_TRUE(eventually([&] { return is_away(); }));
  append({line_of("run_started", "a")});
  for (const char* target : {"/v1/runs", "/v1/runs/r", "/v1/runs/r/events", "/v1/runs/r/chain", "/v1/runs/r/explain",
                             "/v1/reconciliations", "/v1/dead-letters", "/v1/dead-letters/1"}) {
    EXPECT_EQ(refused(target), "503 unavailable") << target;
  }
  EXPECT_EQ(error_of(ask("POST", "/v1/reconciliations/p/undo")), "503 unavailable");
  EXPECT_EQ(error_of(ask("DELETE", "/v1/dead-letters/1")), "503 unavailable");
  EXPECT_EQ(get("/healthz").status, 200U);
  EXPECT_EQ(get("/v1/status").status, 200U);
  show_database();
  settle();
  EXPECT_EQ(got("/v1/runs")["runs"].size(), 1U);
}

TEST_P(ControlApiOnSqlite, OpensItsConnectionAgainAfterTheDatabaseWasExchanged) {
  append({line_of("run_started", "a")});
  settle();
  copy_database("backup.db");
  EXPECT_EQ(got("/v1/runs")["runs"].size(), 1U);
  restore_database("backup.db");
  append({line_of("run_started", "b")});
  settle();
  EXPECT_TRUE(eventually([&] {
    const ApiAnswer answer = get("/v1/runs");
    return answer.status == 200 && object_of(answer)["runs"].size() == 2;
  }));
}

INSTANTIATE_TEST_SUITE_P(Control, ControlApiOnSqlite, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
