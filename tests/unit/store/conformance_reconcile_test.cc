// What a pass of the reconciliation needs of a Store: the lease, the rows to judge, marking and undoing, reports.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/json_text.h"
#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

using StorePasses = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StorePasses, both_databases(), name_of);

using StoreMarking = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreMarking, both_databases(), name_of);

constexpr const char* kError = R"({"kind":"stuck","reason":"no_live_worker","message":"nobody","pass_id":"pass-1"})";

StuckMark mark(std::string run_id, std::int64_t seq, std::optional<std::string> job_state = std::nullopt) {
  StuckMark mark;
  mark.run_id = std::move(run_id);
  mark.expected_last_seq = seq;
  mark.error = kError;
  mark.job_state = std::move(job_state);
  return mark;
}

ReconciliationRow pass(std::string id, const char* started_at) {
  ReconciliationRow row;
  row.pass_id = std::move(id);
  row.recorder = "recorder-1";
  row.trigger = "request";
  row.started_at = at(started_at);
  row.report = "{}";
  return row;
}

std::vector<std::string> ids_of(const ReconciliationPage& page) {
  std::vector<std::string> ids;
  for (const ReconciliationRow& row : page.passes) ids.push_back(row.pass_id);
  return ids;
}

using testing::ids_of;

}  // namespace

TEST_P(StorePasses, OnePassAtATime) {
  EXPECT_TRUE(store().acquire_lease(kPassLease, "one", 1h).value());
  EXPECT_FALSE(open()->acquire_lease(kPassLease, "two", 1h).value());
  EXPECT_TRUE(store().acquire_lease(kPassLease, "one", 1h).value()) << "a renewal";
  ASSERT_TRUE(store().release_lease(kPassLease, "two"));
  EXPECT_FALSE(store().acquire_lease(kPassLease, "two", 1h).value()) << "only the holder releases";
  ASSERT_TRUE(store().release_lease(kPassLease, "one"));
  EXPECT_TRUE(store().acquire_lease(kPassLease, "two", 1h).value());
}

TEST_P(StorePasses, AnExpiredLeaseMayBeTaken) {
  EXPECT_TRUE(store().acquire_lease(kPassLease, "one", 1h).value());
  EXPECT_TRUE(store().acquire_lease(kPassLease, "one", -1s).value());
  EXPECT_TRUE(store().acquire_lease(kPassLease, "two", 1h).value());
  EXPECT_FALSE(store().acquire_lease(kPassLease, "one", 1h).value());
}

TEST_P(StorePasses, ReleaseWithoutALeaseSucceeds) {
  EXPECT_TRUE(store().release_lease(kPassLease, "nobody"));
}

TEST_P(StorePasses, RunningRowsComeByRunIdInPages) {
  for (const char* id : {"d", "b", "a", "c"}) store_run(running(id));
  auto done = running("bb");
  done.status = Status::kCompleted;
  store_run(done);
  auto queued = running("cc");
  queued.status = Status::kQueued;
  store_run(queued);
  const Timestamp later = now() + 1h;
  EXPECT_THAT(ids_of(store().running_rows("", 3, {{}, later}).value()), ElementsAre("a", "b", "c"));
  EXPECT_THAT(ids_of(store().running_rows("c", 3, {{}, later}).value()), ElementsAre("d"));
  EXPECT_THAT(store().running_rows("d", 3, {{}, later}).value(), IsEmpty());
}

TEST_P(StorePasses, RunningRowsAreThoseWhoseLastEventLiesInTheWindow) {
  const Timestamp noon = at("2026-01-02T12:00:00Z");
  const std::vector<std::pair<const char*, Timestamp>> rows{
      {"a", noon - 1us}, {"b", noon}, {"c", noon + 1us}, {"d", noon + 1h}, {"e", noon + 1h + 1us}};
  for (const auto& [id, time] : rows) {
    store_run(running(id));
    database().set_time("runs", "last_event_at", time, fmt::format("run_id = '{}'", id));
  }
  EXPECT_THAT(ids_of(store().running_rows("", 10, {{}, noon}).value()), ElementsAre("a", "b"));
  EXPECT_THAT(ids_of(store().running_rows("", 10, {noon, noon + 1h}).value()), ElementsAre("b", "c", "d"));
  EXPECT_EQ(store().count_running_since(noon).value(), 3U);
  EXPECT_EQ(store().count_running_since(noon + 1h + 1us).value(), 0U);
}

TEST_P(StorePasses, RunningRowsOfWhichTheSameIsKnownAreCountedTogether) {
  const auto put = [this](const char* id, const char* worker, const char* connection, bool expires = false) {
    Run run = running(id);
    run.worker_process = worker;
    run.sender_process = "sender, \"quoted\"";
    run.connection = connection;
    if (expires) run.expires_in = 60;
    return run;
  };
  for (const char* id : {"a", "b", "c"}) store_run(put(id, "w\\1", "one"));
  store_run(put("d", "w\\1", "two"));
  store_run(put("e", "w\\1", "one", true));
  Run with_job = put("f", "w\\1", "one");
  with_job.oban_job_id = 7;
  store_run(with_job);
  Run with_text = put("g", "w\\1", "one");
  with_text.job_id = "seven";
  store_run(with_text);
  store_run(put("letter", "w\\1", "one"));
  Run done = put("h", "w\\1", "one");
  done.status = Status::kCompleted;
  store_run(done);
  store_run(put("young", "w\\1", "one"));
  database().set_time("runs", "last_event_at", now() + 2h, "run_id = 'young'");
  BatchWrite write = batch({}, {});
  DeadLetter letter;
  letter.run_id = "letter";
  letter.record = "record";
  write.dead_letters = {letter};
  write.ledger.dead_letters = 1;
  commit(write);

  const EventWindow window{{}, now() + 1h};
  const RunningGroups found = store().running_groups(window, false, 10).value();
  ASSERT_THAT(found.groups, SizeIs(3));
  EXPECT_EQ(found.others, 3U) << "f, g, letter";
  EXPECT_FALSE(found.with_jobs);
  const RunningGroup& most = found.groups.front();
  EXPECT_EQ(most.rows, 3U);
  EXPECT_EQ(most.recorder, "recorder-1");
  EXPECT_EQ(most.worker_process, "w\\1");
  EXPECT_EQ(most.sender_process, "sender, \"quoted\"");
  EXPECT_EQ(most.connection, "one");
  EXPECT_FALSE(most.expires);

  RunningGroups without;
  without.groups = {most};
  EXPECT_THAT(ids_of(store().running_rows("", 10, window, without).value()),
              ElementsAre("d", "e", "f", "g", "letter"));
  EXPECT_THAT(ids_of(store().running_rows("d", 2, window, without).value()), ElementsAre("e", "f"));
  EXPECT_THAT(ids_of(store().running_rows("", 10, window, found).value()), ElementsAre("f", "g", "letter"));

  const RunningGroups jobs = store().running_groups(window, true, 1).value();
  ASSERT_THAT(jobs.groups, SizeIs(1));
  EXPECT_EQ(jobs.groups.front().rows, 5U);
  EXPECT_EQ(jobs.others, 3U) << "d, e, letter";
  EXPECT_THAT(ids_of(store().running_rows("", 10, window, jobs).value()), ElementsAre("d", "e", "letter"));
}

TEST_P(StorePasses, WhereNoRowIsInAGroupAllAreOthers) {
  EXPECT_EQ(store().running_groups({{}, now() + 1h}, false, 10).value().others, 0U);
  Run run = running("r");
  run.oban_job_id = 7;
  store_run(run);
  const RunningGroups found = store().running_groups({{}, now() + 1h}, false, 10).value();
  EXPECT_THAT(found.groups, IsEmpty());
  EXPECT_EQ(found.others, 1U);
}

TEST_P(StorePasses, ARowThatNoEventOfOursTouchedCountsFromItsUpdate) {
  store_run(running("r"));
  database().execute("UPDATE council_ex_runs SET last_event_at = NULL");
  database().set_time("runs", "updated_at", now() - 1h, "1 = 1");
  const auto rows = store().running_rows("", 10, {{}, now() - 30min}).value();
  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_GE(rows.front().silence, 59min);
  EXPECT_LE(rows.front().silence, 2h);
  EXPECT_EQ(store().count_running_since(now() - 30min).value(), 0U);
}

TEST_P(StorePasses, SilenceIsSinceTheLastEventAndNeverNegative) {
  store_run(running("r"));
  database().set_time("runs", "last_event_at", now() - 3h, "1 = 1");
  auto silence = store().running_row("r").value()->silence;
  EXPECT_GE(silence, 3h);
  EXPECT_LE(silence, 4h);
  database().set_time("runs", "last_event_at", now() + 3h, "1 = 1");
  silence = store().running_row("r").value()->silence;
  EXPECT_EQ(silence, 0ms);
}

TEST_P(StorePasses, ARowSaysWhenItsRecorderWasSeen) {
  store_run(running("mine"));
  auto others = running("others");
  others.recorder = "recorder-2";
  store_run(others);
  auto nobodys = running("nobodys");
  nobodys.recorder = "";
  store_run(nobodys);
  const RecorderSelf other{"recorder-2", "incarnation-2", "host-2", "0.1.0"};
  ASSERT_TRUE(store().check_in(other));
  database().set_time("recorders", "last_seen", now() - 2h, "id = 'recorder-2'");

  const auto mine = store().running_row("mine").value()->recorder_seen_ago;
  ASSERT_TRUE(mine);
  EXPECT_LE(*mine, 1h);
  const auto seen = store().running_row("others").value()->recorder_seen_ago;
  ASSERT_TRUE(seen);
  EXPECT_GE(*seen, 2h);
  EXPECT_LE(*seen, 3h);
  EXPECT_FALSE(store().running_row("nobodys").value()->recorder_seen_ago);

  ASSERT_TRUE(store().check_in(other));
  EXPECT_LE(*store().running_row("others").value()->recorder_seen_ago, 1h);
  EXPECT_EQ(ids_of(store().running_rows("", 10, {{}, now() + 1h}).value()).size(), 3U);
}

TEST_P(StorePasses, ACommitIsSeenToo) {
  ASSERT_TRUE(store().check_in(self_));
  store_run(running("r"));
  database().set_time("recorders", "last_seen", now() - 2h, "1 = 1");
  store_event("r");
  EXPECT_LE(*store().running_row("r").value()->recorder_seen_ago, 1h);
}

TEST_P(StorePasses, ARowSaysWhetherAnEventOfItIsADeadLetter) {
  store_run(running("a"));
  store_run(running("b"));
  BatchWrite write = batch({}, {});
  DeadLetter letter;
  letter.run_id = "b";
  letter.record = "record";
  write.dead_letters = {letter, letter};
  write.ledger.dead_letters = 2;
  commit(write);
  const auto rows = store().running_rows("", 10, {{}, now() + 1h}).value();
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_FALSE(rows[0].dead_letter);
  EXPECT_TRUE(rows[1].dead_letter);
}

TEST_P(StorePasses, RunningRowsComeWithoutJson) {
  auto run = running("r");
  run.input = "{}";
  run.worker_process = "worker";
  run.oban_job_id = 7;
  run.attempt_given = true;
  store_run(run);
  const auto row = store().running_rows("", 1, {{}, now() + 1h}).value().front();
  EXPECT_FALSE(row.run.input || row.run.result || row.run.error);
  EXPECT_EQ(row.run.worker_process, "worker");
  EXPECT_EQ(row.run.oban_job_id, 7);
  EXPECT_TRUE(row.run.attempt_given);
  EXPECT_EQ(row.run.last_seq, 1);
}

TEST_P(StorePasses, OneRowIsFoundWhateverItsStatus) {
  auto run = running("r");
  run.status = Status::kCompleted;
  store_run(run);
  EXPECT_EQ(store().running_row("r").value()->run.status, Status::kCompleted);
  EXPECT_FALSE(store().running_row("nobody").value());
}

TEST_P(StorePasses, TheDatabaseHasAClock) {
  const Timestamp first = now();
  const Timestamp second = open()->database_now().value();
  EXPECT_GE(second, first);
  EXPECT_LT(second - first, 1h);
  const auto age = store().server_age();
  ASSERT_TRUE(age);
  EXPECT_EQ(age->has_value(), GetParam() == Backend::kPostgres);
}

TEST_P(StorePasses, ReportsAreSavedReplacedAndListedNewestFirst) {
  ReconciliationRow first = pass("b", "2026-01-02T00:00:00Z");
  first.finished_at = at("2026-01-02T00:00:01Z");
  first.report = R"({"examined":12,"runs":[{"run_id":"ü"}]})";
  ASSERT_TRUE(store().save_reconciliation(pass("b", "2026-01-02T00:00:00Z")));
  ASSERT_TRUE(store().save_reconciliation(first));
  ASSERT_TRUE(store().save_reconciliation(pass("a", "2026-01-02T00:00:00Z")));
  ASSERT_TRUE(store().save_reconciliation(pass("c", "2026-01-01T00:00:00Z")));
  ASSERT_TRUE(store().save_reconciliation(pass("d", "2026-01-03T00:00:00Z")));
  const auto all = store().list_reconciliations(10, "", "").value();
  EXPECT_THAT(ids_of(all), ElementsAre("d", "b", "a", "c"));
  EXPECT_EQ(all.next, "");
  const ReconciliationRow& read = all.passes[1];
  EXPECT_EQ(read.recorder, "recorder-1");
  EXPECT_EQ(read.trigger, "request");
  EXPECT_EQ(read.started_at, first.started_at);
  EXPECT_EQ(read.finished_at, first.finished_at);
  EXPECT_TRUE(json_equal(read.report, first.report));
  EXPECT_FALSE(all.passes[0].finished_at);

  std::vector<std::string> seen;
  std::string cursor;
  do {
    const auto page = store().list_reconciliations(1, cursor, "").value();
    for (const std::string& id : ids_of(page)) seen.push_back(id);
    cursor = page.next;
  } while (!cursor.empty() && seen.size() < 10);
  EXPECT_THAT(seen, ElementsAre("d", "b", "a", "c"));
}

// ---- marking

TEST_P(StoreMarking, AMarkedRowIsStuckWithItsEvidence) {
  store_run(running("r"));
  const auto before = stored("r");
  const Timestamp began = now();
  const std::vector marks{mark("r", 1, "available")};
  EXPECT_THAT(store().mark_stuck(self_, "pass-1", marks).value(), ElementsAre("r"));
  const auto run = stored("r");
  EXPECT_EQ(run.status, Status::kStuck);
  ASSERT_TRUE(run.finalized_at);
  EXPECT_GE(*run.finalized_at, began);
  EXPECT_EQ(run.oban_job_state_at_finalize, "available");
  ASSERT_TRUE(run.error);
  EXPECT_TRUE(json_equal(*run.error, kError));
  EXPECT_EQ(run.stuck_pass, "pass-1");
  EXPECT_EQ(run.last_seq, 2);
  EXPECT_EQ(run.recorder, before.recorder);
  EXPECT_GE(*run.updated_at, *before.updated_at);
  EXPECT_EQ(run.last_event_at, before.last_event_at);

  const auto events = history("r");
  ASSERT_THAT(events, SizeIs(2));
  EXPECT_EQ(events[1].entry.seq, 2);
  EXPECT_EQ(events[1].entry.type, "run_stuck");
  EXPECT_TRUE(json_equal(events[1].entry.payload, kError));
  EXPECT_EQ(events[1].entry.pass_id, "pass-1");
  EXPECT_EQ(events[1].entry.effect, Effect::kApplied);
  EXPECT_EQ(events[1].recorder, self_.id);
}

TEST_P(StoreMarking, OnlyRunningRowsThatDidNotMoveAreMarked) {
  for (const char* id : {"a", "moved", "finished", "b"}) store_run(running(id));
  store_event("moved");
  auto done = stored("finished");
  done.status = Status::kCompleted;
  commit(batch({update(done)}, {entry("finished", 2)}));
  const std::vector marks{mark("a", 1), mark("moved", 1), mark("finished", 2), mark("nobody", 1), mark("b", 1)};
  EXPECT_THAT(store().mark_stuck(self_, "pass-1", marks).value(), ::testing::UnorderedElementsAre("a", "b"));
  EXPECT_EQ(stored("moved").status, Status::kRunning);
  EXPECT_EQ(stored("finished").status, Status::kCompleted);
  EXPECT_EQ(history_size("moved"), 2U);
  EXPECT_EQ(history_size("finished"), 2U);
  EXPECT_EQ(history_size("nobody"), 0U);
  EXPECT_THAT(store().mark_stuck(self_, "pass-1", marks).value(), IsEmpty()) << "a second time";
  EXPECT_THAT(store().mark_stuck(self_, "pass-1", {}).value(), IsEmpty());
}

TEST_P(StoreMarking, WhatAMarkSaysComesOutAsItIs) {
  const std::string id = R"(a "quoted" \ {id}, NULL)";
  store_run(running(id));
  store_run(running("NULL"));
  StuckMark odd = mark(id, 1, R"(state, "\{})");
  odd.error = R"({"kind":"stuck","message":"a \"word\", a \\ and {braces}\nü"})";
  odd.expected_last_event = store().running_row(id).value()->last_event;
  StuckMark moved = mark("NULL", 1);
  moved.expected_last_event = odd.expected_last_event;
  database().set_time("runs", "last_event_at", now() - 1h, "run_id = 'NULL'");
  EXPECT_THAT(store().mark_stuck(self_, "pass-1", std::vector{odd, moved}).value(), ElementsAre(id));
  EXPECT_EQ(stored(id).oban_job_state_at_finalize, odd.job_state);
  EXPECT_TRUE(json_equal(*stored(id).error, odd.error));
  EXPECT_TRUE(json_equal(history(id).back().entry.payload, odd.error));
  EXPECT_EQ(stored("NULL").status, Status::kRunning) << "an event of it came";
}

TEST_P(StoreMarking, ABatchDecidedBeforeTheMarkIsRaced) {
  store_run(running("r"));
  auto before = stored("r");
  const std::vector marks{mark("r", 1)};
  ASSERT_TRUE(store().mark_stuck(self_, "pass-1", marks));
  before.status = Status::kCompleted;
  EXPECT_EQ(try_commit(batch({update(before)}, {entry("r", 2)})), Committed::kRaced);
  EXPECT_EQ(stored("r").status, Status::kStuck);
}

TEST_P(StoreMarking, RowsOfAPassAreListedWhateverBecameOfThem) {
  for (const char* id : {"a", "b", "c"}) store_run(running(id));
  const std::vector marks{mark("a", 1), mark("b", 1)};
  ASSERT_TRUE(store().mark_stuck(self_, "pass-1", marks));
  auto revived = stored("b");
  revived.status = Status::kCompleted;
  revived.error.reset();
  commit(batch({update(revived, false, true)}, {entry("b", 3)}));
  RunFilter filter;
  filter.pass = "pass-1";
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ::testing::UnorderedElementsAre("a", "b"));
  filter.pass = "pass-2";
  EXPECT_THAT(store().list_runs(filter).value().runs, IsEmpty());
}

TEST_P(StoreMarking, UndoReturnsWhatDidNotMove) {
  for (const char* id : {"a", "b", "c"}) store_run(running(id));
  const std::vector marks{mark("a", 1, "available"), mark("b", 1), mark("c", 1)};
  ASSERT_TRUE(store().mark_stuck(self_, "pass-1", marks));
  auto revived = stored("b");
  revived.status = Status::kCompleted;
  revived.error.reset();
  commit(batch({update(revived, false, true)}, {entry("b", 3)}));

  const Timestamp began = now();
  const auto undone = store().undo_pass(self_, "pass-1").value();
  EXPECT_EQ(undone.undone, 2U);
  EXPECT_EQ(undone.moved, 1U);
  const auto run = stored("a");
  EXPECT_EQ(run.status, Status::kRunning);
  EXPECT_FALSE(run.error || run.finalized_at || run.oban_job_state_at_finalize);
  EXPECT_EQ(run.last_seq, 3);
  EXPECT_EQ(run.recorder, "recorder-1");
  EXPECT_GE(*run.last_event_at, began) << "the grace begins anew";
  const auto events = history("a");
  ASSERT_THAT(events, SizeIs(3));
  EXPECT_EQ(events[2].entry.type, "run_revived");
  EXPECT_EQ(events[2].entry.seq, 3);
  EXPECT_EQ(events[2].entry.pass_id, "pass-1");
  EXPECT_EQ(events[2].entry.effect, Effect::kRevived);
  EXPECT_THAT(events[2].entry.payload, ::testing::HasSubstr("pass-1"));
  EXPECT_EQ(stored("b").status, Status::kCompleted);
  EXPECT_EQ(history_size("b"), 3U);
}

TEST_P(StoreMarking, UndoTwiceChangesNothing) {
  store_run(running("r"));
  const std::vector marks{mark("r", 1)};
  ASSERT_TRUE(store().mark_stuck(self_, "pass-1", marks));
  ASSERT_TRUE(store().undo_pass(self_, "pass-1"));
  const auto again = store().undo_pass(self_, "pass-1").value();
  EXPECT_EQ(again.undone, 0U);
  EXPECT_EQ(again.moved, 1U);
  EXPECT_EQ(stored("r").last_seq, 3);
}

TEST_P(StoreMarking, UndoLeavesWhatALaterPassMarked) {
  store_run(running("r"));
  ASSERT_TRUE(store().mark_stuck(self_, "pass-1", std::vector{mark("r", 1)}));
  ASSERT_TRUE(store().undo_pass(self_, "pass-1"));
  ASSERT_TRUE(store().mark_stuck(self_, "pass-2", std::vector{mark("r", 3)}));
  EXPECT_EQ(store().undo_pass(self_, "pass-1").value().undone, 0U);
  EXPECT_EQ(stored("r").status, Status::kStuck);
  EXPECT_EQ(store().undo_pass(self_, "pass-2").value().undone, 1U);
}

TEST_P(StoreMarking, UndoOfAnUnknownPassIsNotFound) {
  EXPECT_EQ(store().undo_pass(self_, "nobody").error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(store().save_reconciliation(pass("empty", "2026-01-02T00:00:00Z")));
  const auto undone = store().undo_pass(self_, "empty").value();
  EXPECT_EQ(undone.undone, 0U);
  EXPECT_EQ(undone.moved, 0U);
}

TEST_P(StoreMarking, UndoOfManyRowsIsComplete) {
  constexpr int kRuns = 1'300;
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> entries;
  std::vector<StuckMark> marks;
  for (int i = 0; i < kRuns; ++i) {
    auto run = running(fmt::format("r{:04}", i));
    run.last_seq = 1;
    entries.push_back(entry(run.run_id, 1));
    marks.push_back(mark(run.run_id, 1));
    runs.push_back(insert(run));
  }
  commit(batch(runs, entries));
  EXPECT_THAT(store().mark_stuck(self_, "pass-1", marks).value(), SizeIs(kRuns));
  EXPECT_EQ(store().undo_pass(self_, "pass-1").value().undone, std::uint64_t{kRuns});
  EXPECT_EQ(store().count_by_status().value().at(Status::kRunning), std::uint64_t{kRuns});
}

}  // namespace run_recorder::testing
