// Passes of the reconciliation over real rows, with a real queue table beside them.
#include "reconcile/reconciler.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <thread>

#include "process/identity.h"
#include "reconciler_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Passes : public ReconcilerFixture {};
class QueuePasses : public ReconcilerFixture {
 protected:
  void SetUp() override {
    ReconcilerFixture::SetUp();
    make_lite_queue();
    options_.make_queue = [url = url()] {
      QueueOptions queue;
      queue.url = url;
      queue.clock_skew = 0ms;  // the graces of these tests are shorter
      return make_oban_queue(queue);
    };
  }
};

std::string alive_process() {
  return identify(getpid());
}
// A process of this boot that no longer is: the parent's parent of nobody, by a start time that never was.
std::string gone_process() {
  std::string identity = alive_process();
  return identity.substr(0, identity.rfind(':') + 1) + "1";
}

// ---- who is alive

TEST_P(Passes, FindNothingInAnEmptyTable) {
  const PassReport report = pass();
  EXPECT_EQ(report.examined, 0U);
  EXPECT_EQ(report.trigger, PassTrigger::kRequest);
  EXPECT_LE(report.started_at, report.finished_at);
}

TEST_P(Passes, ExamineRunningRowsOnly) {
  append({line_of("run_queued", "queued"), line_of("run_completed", "completed"), line_of("run_failed", "failed"),
          line_of("run_failed", "cancelled", R"("errors":["cancelled"])")});
  settle();
  execute("UPDATE council_ex_runs SET last_event_at = '2026-01-01T00:00:00.000000Z'");
  EXPECT_EQ(boot_like().examined, 0U);
}

TEST_P(Passes, MarkARunWhoseWorkerIsGone) {
  put_run("r", R"("council":"demo","attempt":2,"oban_job_id":9)");
  set_column("r", "worker_process", "'" + gone_process() + "'");
  const PassReport report = pass();
  EXPECT_EQ(found(report, "r"), "stuck process_gone");
  EXPECT_EQ(report.marked, 1U);
  const Row run = row("r");
  EXPECT_EQ(run.status, Status::kStuck);
  EXPECT_TRUE(run.finalized_at.has_value());
  EXPECT_EQ(run.stuck_pass, report.pass_id);
  const auto error = nlohmann::json::parse(run.error.value());
  EXPECT_EQ(error["kind"], "stuck");
  EXPECT_EQ(error["reason"], "process_gone");
  EXPECT_EQ(error["pass_id"], report.pass_id);
  EXPECT_FALSE(error["message"].get<std::string>().empty());
  EXPECT_EQ(error["evidence"]["worker"], "gone");
  EXPECT_EQ(error["evidence"]["worker_process"], gone_process());
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_stuck applied"));
  const ReportedRun* reported = find(report, "r");
  EXPECT_EQ(reported->council, "demo");
  EXPECT_EQ(reported->attempt, 2);
  EXPECT_EQ(reported->oban_job_id, 9);
  EXPECT_GE(reported->age_seconds, 3'600);
}

TEST_P(Passes, LeaveRunsAloneThatSomebodyVouchesFor) {
  put_run("worker");
  set_column("worker", "worker_process", "'" + alive_process() + "'");
  put_run("sender");
  set_column("sender", "sender_process", "'" + alive_process() + "'");
  put_run("connection");
  set_column("connection", "connection", "'c-9'");
  open_connections_.insert("c-9");
  const PassReport report = boot_like();
  EXPECT_EQ(report.examined, 3U);
  EXPECT_EQ(report.alive, 3U);
  EXPECT_EQ(report.marked, 0U);
  EXPECT_TRUE(report.runs.empty());
}

TEST_P(Passes, LeaveAnUnvouchedRunUnknownUnlessRequested) {
  put_run("r");
  EXPECT_EQ(found(pass(), "r"), "unknown no_evidence");
  EXPECT_EQ(row("r").status, Status::kRunning);
  EXPECT_EQ(found(boot_like(), "r"), "stuck no_live_worker");
  EXPECT_EQ(row("r").status, Status::kStuck);
}

TEST_P(Passes, MarkARunThatIsSilentTooLong) {
  put_run("young", {}, 23h);
  put_run("old", {}, 25h);
  const PassReport report = pass();
  EXPECT_EQ(found(report, "young"), "unknown no_evidence");
  EXPECT_EQ(found(report, "old"), "stuck silent");
}

TEST_P(Passes, JudgeRowsThatNoRecorderWroteAsTheirOwn) {
  execute(
      "INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) VALUES ('r', 'theirs', "
      "'running', '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z')");
  EXPECT_EQ(found(pass(), "r"), "stuck silent");
  EXPECT_THAT(history("r"), ElementsAre("1 run_stuck applied"));
}

// ---- many rows of which the same is known

TEST_P(Passes, OneLookDecidesRowsThatShareALivingWorker) {
  std::atomic<int> watched = 0;
  options_.watch = [&watched](const std::string&) { ++watched; };
  put_many("many", "'" + alive_process() + "'", "''", "'c-' || (i % 3)");
  put_run("gone");
  set_column("gone", "worker_process", "'" + gone_process() + "'");
  put_run("letter");
  set_column("letter", "worker_process", "'" + alive_process() + "'");
  set_column("letter", "connection", "'c-1'");
  execute(
      "INSERT INTO council_ex_dead_letters (recorder, run_id, type, record, line, sqlstate, reason, tries, inserted_at) "
      "VALUES ('x', 'letter', 'note', 'record', '{}', '22000', 'no', 1, '2026-01-01T00:00:00.000000Z')");
  PassReport report = pass({.dry_run = true});
  EXPECT_EQ(report.examined, kMany + 2U);
  EXPECT_EQ(report.alive, std::uint64_t{kMany});
  EXPECT_EQ(found(report, "gone"), "stuck process_gone");
  EXPECT_EQ(found(report, "letter"), "unknown dead_letter");
  EXPECT_LE(watched, 4) << "each group, and the row with the dead letter";
  report = pass();
  EXPECT_EQ(report.alive, std::uint64_t{kMany});
  EXPECT_EQ(report.marked, 1U);
}

TEST_P(Passes, RowsWhoseWorkerIsGoneAreMarkedHoweverManyShareIt) {
  put_many("gone", "'" + gone_process() + "'", "''", "'one'");
  put_many("here", "'" + alive_process() + "'", "''", "'one'", "NULL", 100);
  const PassReport report = pass();
  EXPECT_EQ(report.alive, 100U);
  EXPECT_EQ(report.marked, std::uint64_t{kMany});
}

TEST_P(Passes, WhatALivingSenderPromisedIsKeptOrNotByEachRowOfMany) {
  const std::string here = "'" + alive_process() + "'";
  put_many("said", "''", here, "'one'", "CASE WHEN i % 2 = 0 THEN 60 ELSE 2000000000 END");
  put_many("said-nothing", "''", here, "'one'");
  const PassReport report = pass();
  EXPECT_EQ(report.alive, kMany + kMany / 2U);
  EXPECT_EQ(report.marked, kMany / 2U);
  EXPECT_EQ(report.reasons.at("heartbeat_expired"), kMany / 2U);
}

TEST_P(Passes, ManyYoungRowsAreDeferred) {
  put_many("young", "'" + alive_process() + "'", "''", "'one'");
  const Timestamp ahead = open_store()->database_now().value() + 1h;
  execute(fmt::format("UPDATE council_ex_runs SET last_event_at = '{}'", format_rfc3339(ahead)));
  const PassReport report = pass();
  EXPECT_EQ(report.examined, 0U);
  EXPECT_EQ(report.deferred, std::uint64_t{kMany});
}

TEST_P(Passes, WithoutAQueueJobsMakeNoDifferenceToManyRows) {
  put_many("many", "'" + alive_process() + "'", "''", "'one'");
  execute("UPDATE council_ex_runs SET oban_job_id = 7");
  EXPECT_EQ(pass().alive, std::uint64_t{kMany});
}

// ---- other recorders

TEST_P(Passes, LeaveRowsToAnotherRecorderThatIsSeen) {
  put_run("r");
  give_to_other("r", 1min);
  set_column("r", "worker_process", "'" + gone_process() + "'");
  const PassReport report = boot_like();
  EXPECT_EQ(found(report, "r"), "foreign foreign");
  EXPECT_EQ(report.foreign, 1U);
  EXPECT_EQ(row("r").status, Status::kRunning);
}

TEST_P(Passes, TakeRowsOverFromARecorderThatIsGone) {
  if (GetParam() == DatabaseKind::kPostgres) options_.policy.recorder_timeout = 1ms;  // the server is young
  put_run("without");
  put_run("with", R"("oban_job_id":4)");
  give_to_other("without", 11min);
  give_to_other("with", 11min);
  const PassReport report = pass();
  EXPECT_EQ(found(report, "without"), "stuck recorder_gone");
  EXPECT_EQ(found(report, "with"), "unknown no_queue");
}

TEST_P(Passes, TakeARecorderThatTheDatabaseDoesNotKnowForGone) {
  if (GetParam() == DatabaseKind::kPostgres) options_.policy.recorder_timeout = 1ms;
  put_run("r");
  set_column("r", "recorder", "'never-seen'");
  EXPECT_EQ(found(pass(), "r"), "stuck recorder_gone");
}

// ---- dead letters

TEST_P(Passes, LeaveARunWithADeadLetterUnknown) {
  put_run("r");
  set_column("r", "worker_process", "'" + gone_process() + "'");
  refuse_rows("run_events", "NEW.type = 'poison'");
  append({line_of("poison", "r")});
  settle();
  age_row("r");
  EXPECT_EQ(found(boot_like(), "r"), "unknown dead_letter");
  EXPECT_EQ(row("r").status, Status::kRunning);
}

// ---- the grace

TEST_P(Passes, DeferRunsWithinTheGrace) {
  put_run("fresh", {}, 0s);
  put_run("ripe", {}, 31s);
  put_run("young", {}, 5s);
  const PassReport report = boot_like();
  EXPECT_EQ(report.deferred, 2U);
  EXPECT_EQ(report.examined, 1U);
  EXPECT_EQ(found(report, "ripe"), "stuck no_live_worker");
  EXPECT_EQ(row("fresh").status, Status::kRunning);
}

TEST_P(Passes, MarkNothingBeforeWhatWasReceivedIsApplied) {
  put_run("r");
  recorder_.reset();  // the end of the run lies in the spool, and nobody applies it yet
  make_recorder();
  append({line_of("run_completed", "r")});
  reconciler_.reset();
  std::thread applying([&] { recorder_->start(); });
  const PassReport report = boot_like();
  applying.join();
  EXPECT_EQ(report.examined, 0U);
  EXPECT_EQ(row("r").status, Status::kCompleted);
}

// ---- a row that moves

TEST_P(Passes, ReportARowThatMovedWhileItWasJudgedAsRaced) {
  put_run("moving");
  set_column("moving", "connection", "'c-moving'");
  put_run("staying");
  set_column("staying", "connection", "'c-staying'");
  // The look at its connection comes after the row was read: then its end arrives.
  options_.connection_open = [this](std::string_view connection) {
    if (connection == "c-moving" && count("run_events", "run_id = 'moving'") == 1) {
      append({line_of("step", "moving")});
      settle();
    }
    return false;
  };
  const PassReport report = boot_like();
  EXPECT_EQ(found(report, "moving"), "raced raced");
  EXPECT_EQ(report.raced, 1U);
  EXPECT_EQ(found(report, "staying"), "stuck no_live_worker");
  EXPECT_EQ(row("moving").status, Status::kRunning);
  EXPECT_THAT(history("moving"), ElementsAre("1 run_started applied", "2 step recorded"));
}

TEST_P(Passes, AreCorrectedByALaterEvent) {
  put_run("r");
  const PassReport report = boot_like();
  EXPECT_EQ(row("r").status, Status::kStuck);
  append({line_of("run_completed", "r", R"("result":1)")});
  settle();
  const Row run = row("r");
  EXPECT_EQ(run.status, Status::kCompleted);
  EXPECT_EQ(run.error, std::nullopt);
  EXPECT_EQ(run.stuck_pass, report.pass_id);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_stuck applied", "3 run_completed revived",
                                        "4 run_revived recorded"));
}

// ---- requests

TEST_P(Passes, MarkNothingInADryRun) {
  put_run("r");
  const PassReport report = pass({.dry_run = true, .unvouched = true});
  EXPECT_TRUE(report.dry_run);
  EXPECT_EQ(report.stuck, 1U);
  EXPECT_EQ(report.marked, 0U);
  EXPECT_EQ(row("r").status, Status::kRunning);
  EXPECT_EQ(saved_report(report.pass_id)["dry_run"], true);
}

TEST_P(Passes, AreStoppedByTheBreakerUnlessForced) {
  options_.policy.max_stuck = 2;
  for (const char* run_id : {"a", "b", "c"}) put_run(run_id);
  put_run("alive");
  set_column("alive", "sender_process", "'" + alive_process() + "'");
  const PassReport stopped = boot_like();
  EXPECT_TRUE(stopped.stopped);
  EXPECT_EQ(stopped.stuck, 3U);
  EXPECT_EQ(stopped.alive, 1U);
  EXPECT_EQ(stopped.marked, 0U);
  EXPECT_THAT(stopped.stopped_because, HasSubstr("--force"));
  EXPECT_EQ(count("runs", "status = 'running'"), 4U);
  EXPECT_EQ(saved_report(stopped.pass_id)["stopped"], true);

  EXPECT_EQ(reconciler().status().stopped, 1U);
  EXPECT_THAT(council("unknown").ends, ElementsAre(0, 0, 0, 0));

  const PassReport forced = pass({.unvouched = true, .force = true});
  EXPECT_FALSE(forced.stopped);
  EXPECT_EQ(reconciler().status().stopped, 1U);
  EXPECT_EQ(forced.marked, 3U);
}

TEST_P(Passes, AreNotStoppedByTheBreakerWithinItsLimit) {
  options_.policy.max_stuck = 2;
  for (const char* run_id : {"a", "b"}) put_run(run_id);
  put_run("fresh", {}, 0s);
  const PassReport report = boot_like();
  EXPECT_FALSE(report.stopped);
  EXPECT_EQ(report.marked, 2U);
  EXPECT_EQ(report.examined, 2U) << "a row that is scanned twice counts once";
  EXPECT_EQ(report.deferred, 1U);
}

TEST_P(Passes, AreOneAtATimeAcrossDaemons) {
  const auto store = open_store();
  ASSERT_TRUE(store->acquire_lease(kPassLease, "another", 60s).value());
  const auto refused = reconciler().reconcile({});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
  ASSERT_TRUE(store->release_lease(kPassLease, "another"));
  pass();
  EXPECT_TRUE(store->acquire_lease(kPassLease, "another", 60s).value()) << "a pass gives the lease back";
}

TEST_P(Passes, AreOneAtATimeInOneDaemon) {
  put_run("r");
  std::optional<ErrorKind> second;
  options_.connection_open = [&](std::string_view) {
    if (!second) {
      second = ErrorKind::kInternal;
      second = reconciler().reconcile({}).error().kind;
    }
    return false;
  };
  set_column("r", "connection", "'c-1'");
  pass();
  EXPECT_EQ(second, ErrorKind::kConflict);
}

TEST_P(Passes, ThatFailHalfWayGiveTheLeaseBack) {
  put_run("r");
  set_column("r", "connection", "'c-1'");
  options_.connection_open = [&](std::string_view) {
    execute("ALTER TABLE council_ex_runs RENAME TO somewhere_else");
    return false;
  };
  EXPECT_FALSE(reconciler().reconcile({.unvouched = true}));
  execute("ALTER TABLE somewhere_else RENAME TO council_ex_runs");
  EXPECT_EQ(row("r").status, Status::kRunning);
  EXPECT_TRUE(open_store()->acquire_lease(kPassLease, "another", 60s).value());
}

TEST_P(Passes, ThatAreStoppedHalfWayGiveTheLeaseBack) {
  put_run("r");
  set_column("r", "connection", "'c-1'");
  options_.policy.max_stuck = 5;  // counted first, marked then
  options_.connection_open = [&](std::string_view) {
    reconciler().stop();
    return false;
  };
  EXPECT_EQ(reconciler().reconcile({.unvouched = true}).error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(row("r").status, Status::kRunning);
  EXPECT_TRUE(open_store()->acquire_lease(kPassLease, "another", 60s).value());
}

// ---- undo

TEST_P(Passes, AreUndone) {
  put_run("stays");
  put_run("moved");
  const PassReport report = boot_like();
  append({line_of("run_completed", "moved")});
  settle();
  const auto undone = open_store()->undo_pass(recorder_->self(), report.pass_id);
  ASSERT_TRUE(undone);
  EXPECT_EQ(undone->undone, 1U);
  EXPECT_EQ(undone->moved, 1U);
  const Row run = row("stays");
  EXPECT_EQ(run.status, Status::kRunning);
  EXPECT_EQ(run.error, std::nullopt);
  EXPECT_EQ(run.finalized_at, std::nullopt);
  EXPECT_THAT(history("stays"), ElementsAre("1 run_started applied", "2 run_stuck applied", "3 run_revived revived"));
  EXPECT_EQ(row("moved").status, Status::kCompleted);
  // The recorder had the row in memory as it was before all this.
  append({line_of("run_completed", "stays")});
  settle();
  EXPECT_EQ(history("stays").back(), "4 run_completed applied");
}

// ---- the report

TEST_P(Passes, SaveTheReportTheyAnswerWith) {
  put_run("stuck", R"("council":"demo")");
  set_column("stuck", "worker_process", "'" + gone_process() + "'");
  put_run("unknown");
  put_run("foreign");
  give_to_other("foreign", 1s);
  put_run("fresh", {}, 0s);
  put_run("alive");
  set_column("alive", "sender_process", "'" + alive_process() + "'");
  const PassReport report = pass();
  EXPECT_EQ(report.examined, 4U);
  EXPECT_EQ(report.alive, 1U);
  EXPECT_EQ(report.stuck, 1U);
  EXPECT_EQ(report.unknown, 1U);
  EXPECT_EQ(report.foreign, 1U);
  EXPECT_EQ(report.deferred, 1U);
  EXPECT_EQ(report.reasons,
            (std::map<std::string, std::uint64_t>{{"foreign", 1}, {"no_evidence", 1}, {"process_gone", 1}}));
  const auto saved = saved_report(report.pass_id);
  EXPECT_EQ(saved, nlohmann::json::parse(report.to_json()));
  std::vector<std::string> names;
  for (const auto& [name, value] : saved.items()) names.push_back(name);
  EXPECT_THAT(names, ::testing::IsSupersetOf({"pass_id", "trigger", "stopped", "dry_run", "started_at", "finished_at",
                                              "examined", "alive", "stuck", "unknown", "raced", "foreign", "marked",
                                              "deferred", "reasons", "runs", "truncated"}));
  EXPECT_EQ(saved["runs"].size(), 3U);
  EXPECT_EQ(saved["runs"][0].size(), 7U);
}

TEST_P(Passes, TruncateTheListOfRunsAndReportIt) {
  std::vector<std::string> lines;
  for (int i = 0; i < 2'300; ++i) lines.push_back(line_of("run_started", "r" + std::to_string(i)));
  append(lines);
  settle();
  execute("UPDATE council_ex_runs SET last_event_at = '2026-01-01T00:00:00.000000Z'");
  options_.policy.log_rows = 3;
  const PassReport report = boot_like();
  EXPECT_EQ(report.examined, 2'300U) << "more than one page";
  EXPECT_EQ(report.marked, 2'300U);
  EXPECT_EQ(report.runs.size(), kReportedRuns);
  EXPECT_TRUE(report.truncated);
  EXPECT_EQ(count("runs", "status = 'stuck'"), 2'300U);
  RunFilter filter;
  filter.pass = report.pass_id;
  filter.limit = 1'000;
  std::size_t listed = 0;
  const auto store = open_store();
  do {
    const RunPage page = store->list_runs(filter).value();
    listed += page.runs.size();
    filter.cursor = page.next;
  } while (!filter.cursor.empty());
  EXPECT_EQ(listed, 2'300U);
}

TEST_P(Passes, CountWhatTheyFound) {
  put_run("r");
  boot_like();
  pass();
  const ReconcilerStatus now = reconciler().status();
  EXPECT_EQ(now.passes, 2U);
  EXPECT_EQ(now.failures, 0U);
  EXPECT_EQ(now.findings.at("no_live_worker"), 1U);
  EXPECT_FALSE(now.running);
  EXPECT_FALSE(now.boot_done);
  EXPECT_TRUE(now.last_good_at.has_value());
}

TEST_P(Passes, CountStuckRunsByCouncilAndReadWhatTheRecorderDidNotSee) {
  put_run("r", R"("council":"one")");
  put_run("s", R"("council":"two")", 0s);
  append({line_of("run_completed", "done", R"("at":"2026-03-01T00:00:00Z")")});
  settle();
  execute(
      "INSERT INTO council_ex_runs (run_id, council, status, started_at, finalized_at, inserted_at, updated_at) "
      "VALUES ('t', 'theirs', 'completed', '2026-03-01T00:00:00.000000Z', '2026-03-01T00:00:02.000000Z', "
      "'2026-03-01T00:00:00.000000Z', '2026-03-01T00:00:02.000000Z')");
  boot_like();
  EXPECT_THAT(council("one").ends, ElementsAre(0, 0, 0, 1));
  EXPECT_EQ(council("one").running, 0U);
  EXPECT_EQ(council("two").running, 1U);
  EXPECT_EQ(council("theirs").last_success, parse_rfc3339("2026-03-01T00:00:02Z"));
  EXPECT_THAT(council("theirs").ends, ElementsAre(0, 0, 0, 0)) << "not recorded by this daemon";
}

// ---- boot

// Longer than any machine takes from an event to the pass that defers it.
constexpr std::chrono::minutes kGrace{30};

TEST_P(Passes, ComeAtBootAndOnceMoreWhenTheGraceHasEnded) {
  options_.policy.grace = kGrace;
  put_run("old");
  put_run("deferred", {}, 0s);
  reconciler().start();
  ASSERT_TRUE(eventually([&] { return reconciler().status().boot_done; }));
  EXPECT_EQ(reconciler().status().last->deferred, 1U);
  age_row("deferred", kGrace);
  skip(kGrace + 1s);
  ASSERT_TRUE(eventually([&] { return reconciler().status().passes == 2; }));
  EXPECT_EQ(count("reconciliations", "\"trigger\" = 'boot'"), 2U);
  EXPECT_EQ(row("old").status, Status::kStuck);
  EXPECT_EQ(row("deferred").status, Status::kStuck);
  EXPECT_NE(row("old").stuck_pass, row("deferred").stuck_pass);
  const auto second = saved_report(row("deferred").stuck_pass);
  EXPECT_EQ(second["examined"], 1);
  EXPECT_EQ(second["reasons"]["no_live_worker"], 1);
}

TEST_P(Passes, DoNotComeASecondTimeWhereNothingWasDeferred) {
  put_run("old");
  reconciler().start();
  ASSERT_TRUE(eventually([&] { return reconciler().status().boot_done; }));
  reconciler().stop();
  EXPECT_EQ(count("reconciliations"), 1U);
}

TEST_P(Passes, OfTheSecondBootLeaveRunsAloneThatBeganLater) {
  options_.policy.grace = kGrace;
  put_run("deferred", {}, 0s);
  reconciler().start();
  ASSERT_TRUE(eventually([&] { return reconciler().status().boot_done; }));
  append({line_of("run_started", "later")});
  settle();
  age_row("deferred", kGrace);
  skip(kGrace + 1s);
  ASSERT_TRUE(eventually([&] { return reconciler().status().passes == 2; }));
  EXPECT_EQ(row("deferred").status, Status::kStuck);
  EXPECT_EQ(row("later").status, Status::kRunning);
}

TEST_P(Passes, ComeAtEveryInterval) {
  options_.policy.interval = 10ms;
  reconciler().start();
  EXPECT_TRUE(eventually([&] { return reconciler().status().passes >= 4; }));
  reconciler().stop();
  EXPECT_GE(count("reconciliations", "\"trigger\" = 'interval'"), 3U);
}

TEST_P(Passes, ComeAtEveryIntervalAlsoBeforeTheSecondBoot) {
  options_.policy.grace = 1h;
  options_.policy.interval = 10ms;
  put_run("deferred", {}, 0s);
  reconciler().start();
  EXPECT_TRUE(eventually([&] { return reconciler().status().passes >= 3; }));
  reconciler().stop();
  EXPECT_EQ(count("reconciliations", "\"trigger\" = 'boot'"), 1U);
}

TEST_P(Passes, MayBeRequestedOnceTheLastOneHasFinished) {
  reconciler().start();
  ASSERT_TRUE(eventually([&] { return count("reconciliations", "finished_at IS NOT NULL") == 1; }));
  const auto asked = reconciler().reconcile({});
  EXPECT_TRUE(asked) << asked.error().message;
}

TEST_P(Passes, FollowAPolicyThatChanges) {
  reconciler().start();
  ASSERT_TRUE(eventually([&] { return reconciler().status().boot_done; }));
  ReconcilePolicy policy = options_.policy;
  policy.interval = 10ms;
  reconciler().reconfigure(policy);
  EXPECT_TRUE(eventually([&] { return reconciler().status().passes >= 3; }));
}

TEST_P(Passes, EndWhenTheDaemonStops) {
  reconciler().start();
  reconciler().stop();
  EXPECT_EQ(reconciler().reconcile({}).error().kind, ErrorKind::kUnavailable);
}

// ---- explain

TEST_P(Passes, ExplainEachRulesAnswer) {
  put_run("r", R"("oban_job_id":4)");
  set_column("r", "worker_process", "'" + gone_process() + "'");
  const auto said = explain("r");
  EXPECT_EQ(said["run_id"], "r");
  EXPECT_EQ(said["status"], "running");
  EXPECT_EQ(said["verdict"], "stuck");
  EXPECT_EQ(said["reason"], "process_gone");
  ASSERT_EQ(said["rules"].size(), 6U);
  std::vector<std::string> decided;
  for (const auto& rule : said["rules"]) {
    EXPECT_FALSE(rule["detail"].get<std::string>().empty());
    if (!rule["verdict"].is_null()) decided.push_back(rule["name"]);
  }
  EXPECT_THAT(decided, ElementsAre("worker_process", "nobody"));
  EXPECT_EQ(row("r").status, Status::kRunning) << "explaining marks nothing";
}

TEST_P(Passes, ExplainWhyNothingIsJudged) {
  put_run("fresh", {}, 0s);
  EXPECT_EQ(explain("fresh")["verdict"], "deferred");
  append({line_of("run_completed", "done")});
  settle();
  EXPECT_EQ(explain("done")["verdict"], nullptr);
  EXPECT_THAT(explain("done")["message"].get<std::string>(), HasSubstr("completed"));
  const auto store = open_store();
  EXPECT_EQ(reconciler().explain(*store, "nobody").error().kind, ErrorKind::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Reconciler, Passes, ::testing::Values(DatabaseKind::kSqlite, DatabaseKind::kPostgres),
                         name_of);

// ---- the queue

TEST_P(QueuePasses, AskTheJobsRow) {
  const struct {
    const char* run_id;
    std::int64_t job;
    const char* state;
    int attempt;
    const char* verdict;
  } kCases[] = {
      {"executing", 1, "executing", 1, "alive"},
      {"available", 2, "available", 1, "stuck queue_not_executing"},
      {"retryable", 3, "retryable", 1, "stuck queue_not_executing"},
      {"scheduled", 4, "scheduled", 1, "stuck queue_not_executing"},
      {"discarded", 5, "discarded", 1, "stuck queue_not_executing"},
      {"cancelled", 6, "cancelled", 1, "stuck queue_not_executing"},
      {"suspended", 7, "suspended", 1, "stuck queue_not_executing"},
      {"completed", 8, "completed", 1, "stuck terminal_event_lost"},
      {"superseded", 9, "executing", 2, "stuck attempt_superseded"},
      {"earlier", 10, "executing", 0, "unknown queue_unavailable"},
  };
  for (const auto& one : kCases) {
    put_run(one.run_id, fmt::format(R"("oban_job_id":{},"attempt":1)", one.job));
    put_job(one.job, one.state, one.attempt);
  }
  put_run("absent", R"("oban_job_id":99,"attempt":1)");
  const PassReport report = pass();
  for (const auto& one : kCases) EXPECT_EQ(found(report, one.run_id), one.verdict) << one.run_id;
  EXPECT_EQ(found(report, "absent"), "stuck queue_row_absent");
  EXPECT_EQ(row("retryable").oban_job_state_at_finalize, "retryable");
  EXPECT_EQ(row("absent").oban_job_state_at_finalize, std::nullopt);
  EXPECT_EQ(nlohmann::json::parse(*row("retryable").error)["evidence"]["job_state"], "retryable");
}

TEST_P(QueuePasses, DoNotCompareAnAttemptThatNoEventStated) {
  put_run("r", R"("oban_job_id":1)");
  put_job(1, "executing", 5);
  EXPECT_EQ(found(pass(), "r"), "alive");
}

TEST_P(QueuePasses, LeaveARunUnknownWhereTheQueueCannotBeRead) {
  put_run("r", R"("oban_job_id":1)");
  put_run("jobless");
  execute("DROP TABLE oban_jobs");
  const PassReport report = boot_like();
  EXPECT_EQ(found(report, "r"), "unknown queue_unavailable");
  EXPECT_EQ(found(report, "jobless"), "stuck no_live_worker");
}

TEST_P(QueuePasses, AskForTheJobOfARecorderThatIsGone) {
  put_run("gone", R"("oban_job_id":1)");
  put_run("lives", R"("oban_job_id":2)");
  put_job(2, "executing");
  give_to_other("gone", 11min);
  give_to_other("lives", 11min);
  const PassReport report = pass();
  EXPECT_EQ(found(report, "gone"), "stuck queue_row_absent");
  EXPECT_EQ(found(report, "lives"), "alive");
}

TEST_P(QueuePasses, DeferARunWhoseJobJustChanged) {
  put_run("r", R"("oban_job_id":1,"attempt":1)");
  put_job(1, "retryable", 1, format_rfc3339(open_store()->database_now().value()));
  const PassReport report = boot_like();
  EXPECT_EQ(report.deferred, 1U);
  EXPECT_EQ(report.examined, 0U);
  EXPECT_EQ(row("r").status, Status::kRunning);
  put_job(1, "retryable", 1);
  EXPECT_EQ(found(boot_like(), "r"), "stuck queue_not_executing");
}

TEST_P(QueuePasses, OfTheSecondBootExamineARunWhoseJobJustChangedAgain) {
  options_.policy.grace = kGrace;
  put_run("r", R"("oban_job_id":1,"attempt":1)");
  put_job(1, "retryable", 1, format_rfc3339(open_store()->database_now().value()));
  put_job(2, "executing", 1);
  reconciler().start();
  ASSERT_TRUE(eventually([&] { return reconciler().status().boot_done; }));
  ASSERT_EQ(reconciler().status().last->deferred, 1U);
  put_job(1, "retryable", 1);
  skip(kGrace + 1s);
  ASSERT_TRUE(eventually([&] { return reconciler().status().passes == 2; }));
  EXPECT_EQ(row("r").status, Status::kStuck);
}

TEST_P(QueuePasses, TheQueueIsAskedForARowAmongManyThatLive) {
  put_many("many", "'" + alive_process() + "'", "''", "'one'");
  put_job(1, "executing");
  set_column("many-1", "oban_job_id", "1");
  set_column("many-2", "job_id", "'99'");
  const PassReport report = pass();
  EXPECT_EQ(report.alive, kMany - 1U);
  EXPECT_EQ(found(report, "many-2"), "stuck queue_row_absent");
}

INSTANTIATE_TEST_SUITE_P(Reconciler, QueuePasses, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
