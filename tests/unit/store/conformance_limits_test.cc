// What bounds the recorder's own tables.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using StoreLimits = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreLimits, both_databases(), name_of);

constexpr auto kLimit = std::chrono::hours(24 * 30);

ReconciliationRow pass_at(std::string id, Timestamp started_at, std::string trigger = "interval") {
  ReconciliationRow row;
  row.pass_id = std::move(id);
  row.recorder = "recorder-1";
  row.trigger = std::move(trigger);
  row.started_at = started_at;
  row.report = R"({"runs":[]})";
  return row;
}

std::vector<std::string> ids_of(const std::vector<AgedPass>& passes) {
  std::vector<std::string> ids;
  for (const AgedPass& pass : passes) ids.push_back(pass.pass_id);
  return ids;
}

RecorderSelf recorder(std::string id) {
  return {std::move(id), "its-incarnation", "host-2", "0.1.0"};
}

}  // namespace

TEST_P(StoreLimits, PassesComeNewestFirstInPagesWithTheirAgesAndWhetherTheyMarked) {
  for (const char* run : {"a", "b"}) store_run(running(run));
  const Timestamp then = now();
  ASSERT_TRUE(store().save_reconciliation(pass_at("old", then - 48h, "request")));
  ASSERT_TRUE(store().save_reconciliation(pass_at("new", then - 1h)));
  ASSERT_TRUE(store().save_reconciliation(pass_at("middle", then - 2h)));
  const StuckMark mark{"a", 1, R"({"kind":"stuck"})", std::nullopt};
  ASSERT_THAT(store().mark_stuck(self_, "middle", {&mark, 1}).value(), ElementsAre("a"));
  const AgedPassPage first = store().aged_passes(2, "").value();
  ASSERT_THAT(ids_of(first.passes), ElementsAre("new", "middle"));
  EXPECT_FALSE(first.passes[0].marked);
  EXPECT_TRUE(first.passes[1].marked);
  EXPECT_GE(first.passes[0].age, 1h);
  EXPECT_LT(first.passes[0].age, 2h);
  EXPECT_GT(first.passes[0].bytes, 0U);
  const AgedPassPage rest = store().aged_passes(2, first.next).value();
  ASSERT_THAT(ids_of(rest.passes), ElementsAre("old"));
  EXPECT_EQ(rest.passes[0].trigger, "request");
  EXPECT_EQ(rest.next, "");
  EXPECT_EQ(store().aged_passes(2, "nonsense").error().kind, ErrorKind::kInvalid);
}

TEST_P(StoreLimits, APassHasMarkedAsItsReportSaysAlsoWhenTheRunsAreGone) {
  const auto marked = [&](const char* report) {
    ReconciliationRow pass = pass_at("pass", now());
    pass.report = report;
    EXPECT_TRUE(store().save_reconciliation(pass));
    return store().aged_passes(2, "").value().passes.at(0).marked;
  };
  EXPECT_TRUE(marked(R"({"marked":1})"));
  EXPECT_TRUE(marked(R"({"marked":50000})"));
  for (const char* none :
       {R"({"marked":0})", R"({"marked":"1"})", R"({"marked":null})", R"({"marked":[1]})", "{}", "[1]"}) {
    EXPECT_FALSE(marked(none)) << none;
  }
}

TEST_P(StoreLimits, APassWhoseReportIsGoneIsListedByItsRunsAndCanBeUndone) {
  store_run(running("a"));
  ASSERT_TRUE(store().save_reconciliation(pass_at("idle", now())));
  ASSERT_TRUE(store().save_reconciliation(pass_at("marking", now())));
  const StuckMark mark{"a", 1, R"({"kind":"stuck"})", std::nullopt};
  ASSERT_THAT(store().mark_stuck(self_, "marking", {&mark, 1}).value(), ElementsAre("a"));
  EXPECT_EQ(store().remove_passes(std::vector<std::string>{"idle", "marking", "nobody"}).value(), 2U);
  EXPECT_EQ(store().remove_passes({}).value(), 0U);
  EXPECT_THAT(store().list_reconciliations(9, "", "").value().passes, IsEmpty());
  RunFilter of_pass;
  of_pass.pass = "marking";
  EXPECT_THAT(::run_recorder::testing::ids_of(store().list_runs(of_pass).value().runs), ElementsAre("a"));
  EXPECT_EQ(store().undo_pass(self_, "marking").value().undone, 1U);
  EXPECT_EQ(stored("a").status, Status::kRunning);
  EXPECT_EQ(store().undo_pass(self_, "idle").error().kind, ErrorKind::kNotFound);
}

TEST_P(StoreLimits, PositionsBeyondTheSpareGoOnceNobodyHasUsedThemForLong) {
  store_run(running("a"));  // a position of incarnation-1
  for (int i = 0; i < 4; ++i) {
    database().execute(
        fmt::format("INSERT INTO council_ex_positions (recorder, incarnation, applied, updated_at) VALUES "
                    "('recorder-1', 'past-{}', {}, '{}')",
                    i, i + 1, format_rfc3339(now() - kLimit - std::chrono::hours(i + 1))));
  }
  EXPECT_EQ(store().forget_positions(kLimit, 5, 10).value(), 0U) << "all are spared";
  EXPECT_EQ(store().forget_positions(2 * kLimit, 0, 10).value(), 0U) << "none is that old";
  EXPECT_EQ(store().forget_positions(kLimit, 3, 1).value(), 1U) << "so many at once";
  EXPECT_EQ(store().forget_positions(kLimit, 3, 10).value(), 1U);
  EXPECT_THAT(store().check_in(self_).value().applied,
              UnorderedElementsAre(Pair("incarnation-1", 1U), Pair("past-0", 1U), Pair("past-1", 2U)));
  EXPECT_EQ(store().forget_positions(kLimit, 0, 10).value(), 2U);
  EXPECT_THAT(store().check_in(self_).value().applied, ElementsAre(Pair("incarnation-1", 1U)));
}

TEST_P(StoreLimits, APositionThatASpoolKnowsIsKept) {
  store_run(running("a"));
  const std::string old = format_rfc3339(now() - kLimit - 1h);
  for (const char* incarnation : {"known", "unknown"}) {
    database().execute(
        fmt::format("INSERT INTO council_ex_positions (recorder, incarnation, applied, updated_at) VALUES "
                    "('recorder-1', '{0}', 3, '{1}'), ('another', '{0}', 3, '{1}')",
                    incarnation, old));
  }
  ASSERT_TRUE(
      store().keep_positions("recorder-1", std::vector<std::string>{"known", "incarnation-1", "nothing-yet"}));
  EXPECT_EQ(store().forget_positions(kLimit, 0, 10).value(), 3U) << "those of the spool that is gone, too";
  EXPECT_THAT(store().check_in(self_).value().applied,
              UnorderedElementsAre(Pair("incarnation-1", 1U), Pair("known", 3U)));
  EXPECT_EQ(database().query("SELECT count(*) FROM council_ex_positions"), "2");
}

TEST_P(StoreLimits, KeepingPositionsWritesOnlyWhatHasNotBeenUsedForADay) {
  store_run(running("a"));
  database().set_time("positions", "updated_at", now() - 23h, "true");
  const std::string before = database().query("SELECT updated_at FROM council_ex_positions");
  const std::vector<std::string> own{"incarnation-1"};
  ASSERT_TRUE(store().keep_positions("recorder-1", own));
  EXPECT_EQ(database().query("SELECT updated_at FROM council_ex_positions"), before);
  database().set_time("positions", "updated_at", now() - 25h, "true");
  const std::string older = database().query("SELECT updated_at FROM council_ex_positions");
  ASSERT_TRUE(store().keep_positions("recorder-1", own));
  EXPECT_GT(database().query("SELECT updated_at FROM council_ex_positions"), older);
}

TEST_P(StoreLimits, ARecorderThatWasNotSeenForLongIsForgottenWithItsPositions) {
  for (const char* id : {"gone", "seen"}) ASSERT_TRUE(store().check_in(recorder(id)));
  ASSERT_TRUE(store().check_in(self_));
  for (const char* id : {"gone", "seen"}) {
    database().execute(
        fmt::format("INSERT INTO council_ex_positions (recorder, incarnation, applied, updated_at) VALUES ('{}', "
                    "'its-incarnation', 7, '{}')",
                    id, format_rfc3339(now() - kLimit - 1h)));
  }
  database().set_time("recorders", "last_seen", now() - kLimit - 1h, "id = 'gone'");
  EXPECT_EQ(store().forget_recorders(2 * kLimit, 10).value().recorders, 0U);
  const ForgottenRecorders forgotten = store().forget_recorders(kLimit, 10).value();
  EXPECT_EQ(forgotten.recorders, 1U);
  EXPECT_EQ(forgotten.positions, 1U);
  EXPECT_EQ(database().query("SELECT id FROM council_ex_recorders ORDER BY id"), "recorder-1\nseen");
  EXPECT_EQ(database().query("SELECT recorder FROM council_ex_positions"), "seen");
}

TEST_P(StoreLimits, ARecorderStaysThatHasADeadLetterAJudgedRunOrAUsedPosition) {
  for (const char* id : {"letter", "running", "queued", "position", "finished"}) {
    ASSERT_TRUE(store().check_in(recorder(id)));
  }
  DeadLetter letter;
  letter.recorder = "letter";
  letter.record = "record";
  auto write = batch({}, {});
  write.dead_letters = {letter};
  write.ledger.dead_letters = 1;
  commit(write);
  database().execute("UPDATE council_ex_dead_letters SET recorder = 'letter'");
  store_run(running("running"));
  auto queued = running("queued");
  queued.status = Status::kQueued;
  queued.oban_job_id = 7;
  store_run(queued);
  auto finished = running("finished");
  finished.status = Status::kCompleted;
  store_run(finished);
  for (const char* id : {"running", "queued", "finished"}) {
    database().execute(fmt::format("UPDATE council_ex_runs SET recorder = '{0}' WHERE run_id = '{0}'", id));
  }
  database().execute(
      fmt::format("INSERT INTO council_ex_positions (recorder, incarnation, applied, updated_at) VALUES ('position', "
                  "'of-a-copy', 7, '{}')",
                  format_rfc3339(now() - kLimit + 1h)));
  database().set_time("recorders", "last_seen", now() - kLimit - 1h, "id <> 'recorder-1'");
  EXPECT_EQ(store().forget_recorders(kLimit, 10).value().recorders, 1U);
  EXPECT_EQ(database().query("SELECT id FROM council_ex_recorders ORDER BY id"),
            "letter\nposition\nqueued\nrecorder-1\nrunning");
  database().execute("UPDATE council_ex_runs SET status = 'stuck'");
  EXPECT_EQ(store().forget_recorders(kLimit, 1).value().recorders, 1U) << "so many at once";
  EXPECT_EQ(store().forget_recorders(kLimit, 10).value().recorders, 1U);
}

TEST_P(StoreLimits, TheRecorderOfARowMayBeForgottenByThisDatabase) {
  store_run(running("a"));
  database().execute("UPDATE council_ex_runs SET recorder = 'gone'");
  EXPECT_EQ(store().running_row("a").value()->recorder_seen_ago, std::nullopt);
}

}  // namespace run_recorder::testing
