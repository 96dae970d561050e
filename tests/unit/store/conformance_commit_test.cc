// What the recorder writes: rows, history, guards, position and ledger in one transaction.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/json_text.h"
#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

using StoreCommit = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreCommit, in_pieces_too(), name_of);

Run full_run() {
  Run run;
  run.run_id = "full";
  run.council = "Elixir.Demo.Council";
  run.status = Status::kFailed;
  run.attempt = 2'147'483'647;
  run.parent_attempt_run_id = "parent";
  run.oban_job_id = 9'223'372'036'854'775'807;
  run.oban_job_state_at_finalize = "executing";
  run.input = R"({"a":1})";
  run.result = R"({"value":null})";
  run.error = R"({"errors":["x"]})";
  run.started_at = at("2026-01-02T03:04:05.678901Z");
  run.finalized_at = at("2026-01-02T03:04:06Z");
  run.council_given = true;
  run.attempt_given = true;
  run.recorder = "recorder-1";
  run.worker_process = "worker";
  run.sender_process = "sender";
  run.connection = "incarnation-1-7";
  run.stuck_pass = "pass-0";
  return run;
}

void expect_same_json(const JsonColumn& stored, const JsonColumn& written) {
  ASSERT_EQ(stored.has_value(), written.has_value());
  if (!stored) return;
  EXPECT_TRUE(json_equal(*stored, *written)) << *stored << " is not " << *written;
}

}  // namespace

TEST_P(StoreCommit, InsertedRowReadsBackWhole) {
  const Timestamp before = now();
  const Run written = full_run();
  store_run(written);
  const Run run = stored("full");
  EXPECT_EQ(run.run_id, written.run_id);
  EXPECT_EQ(run.council, written.council);
  EXPECT_EQ(run.status, written.status);
  EXPECT_EQ(run.attempt, written.attempt);
  EXPECT_EQ(run.parent_attempt_run_id, written.parent_attempt_run_id);
  EXPECT_EQ(run.oban_job_id, written.oban_job_id);
  EXPECT_EQ(run.oban_job_state_at_finalize, written.oban_job_state_at_finalize);
  expect_same_json(run.input, written.input);
  expect_same_json(run.result, written.result);
  expect_same_json(run.error, written.error);
  EXPECT_EQ(run.started_at, written.started_at);
  EXPECT_EQ(run.finalized_at, written.finalized_at);
  EXPECT_TRUE(run.council_given);
  EXPECT_TRUE(run.attempt_given);
  EXPECT_EQ(run.recorder, written.recorder);
  EXPECT_EQ(run.worker_process, written.worker_process);
  EXPECT_EQ(run.sender_process, written.sender_process);
  EXPECT_EQ(run.connection, written.connection);
  EXPECT_EQ(run.last_seq, 1);
  EXPECT_EQ(run.stuck_pass, written.stuck_pass);
  for (const auto& time : {run.inserted_at, run.updated_at, run.last_event_at}) {
    ASSERT_TRUE(time);
    EXPECT_GE(*time, before);
    EXPECT_LE(*time, now());
  }
}

TEST_P(StoreCommit, InPiecesABatchIsStillOneTransaction) {
  store_run(running("ends"));
  store_run(running("steps"));
  const auto other = open();
  at_rest_ = [&] {
    EXPECT_FALSE(other->find_run("new").value());
    for (const char* run_id : {"ends", "steps"}) EXPECT_EQ(other->find_run(run_id).value()->last_seq, 1) << run_id;
  };
  rests_ = 0;
  RunChange end = update(stored("ends"), false, true);
  end.after.status = Status::kCompleted;
  Run begun = running("new");
  begun.last_seq = 1;
  commit(
      batch({end, update(stored("steps")), insert(begun)}, {entry("ends", 2), entry("steps", 2), entry("new", 1)}));
  EXPECT_EQ(rests_, in_pieces(GetParam()) ? 6U : 0U);
  EXPECT_EQ(stored("ends").status, Status::kCompleted);
  for (const char* run_id : {"ends", "steps"}) EXPECT_EQ(last_seq(run_id), 2) << run_id;
  EXPECT_EQ(history_size("new"), 1U);
}

TEST_P(StoreCommit, ARowThatMovedUndoesWhatWasWrittenBeforeIt) {
  for (const char* run_id : {"first", "second"}) store_run(running(run_id));
  RunChange moved = update(stored("second"));
  ++moved.expected_last_seq;
  Run begun = running("new");
  begun.last_seq = 1;
  EXPECT_EQ(try_commit(batch({insert(begun), update(stored("first")), moved},
                             {entry("new", 1), entry("first", 2), entry("second", 3)})),
            Committed::kRaced);
  for (const char* run_id : {"first", "second"}) EXPECT_EQ(history_size(run_id), 1U) << run_id;
  EXPECT_EQ(last_seq("first"), 1);
  EXPECT_FALSE(store().find_run("new").value());
}

TEST_P(StoreCommit, AbsentFieldsReadBackAsAbsent) {
  Run written;
  written.run_id = "bare";
  store_run(written);
  const Run run = stored("bare");
  EXPECT_EQ(run.council, "unknown");
  EXPECT_EQ(run.status, Status::kQueued);
  EXPECT_EQ(run.attempt, 1);
  EXPECT_FALSE(run.parent_attempt_run_id || run.oban_job_id || run.oban_job_state_at_finalize);
  EXPECT_FALSE(run.input || run.result || run.error);
  EXPECT_FALSE(run.started_at || run.finalized_at);
  EXPECT_FALSE(run.council_given || run.attempt_given);
  EXPECT_EQ(run.recorder + run.worker_process + run.sender_process + run.connection + run.stuck_pass, "");
}

TEST_P(StoreCommit, EveryStatusAndEffectReadsBack) {
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> entries;
  const std::array statuses{Status::kQueued, Status::kRunning,   Status::kCompleted,
                            Status::kFailed, Status::kCancelled, Status::kStuck};
  const std::array effects{Effect::kApplied, Effect::kRecorded, Effect::kConflict, Effect::kRevived};
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    Run run = running(std::string(to_string(statuses[i])));
    run.status = statuses[i];
    run.last_seq = 1;
    entries.push_back(entry(run.run_id, 1));
    entries.back().effect = effects[i % effects.size()];
    runs.push_back(insert(run));
  }
  commit(batch(runs, entries));
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    const auto run_id = to_string(statuses[i]);
    EXPECT_EQ(stored(run_id).status, statuses[i]);
    EXPECT_EQ(history(run_id).front().entry.effect, effects[i % effects.size()]);
  }
}

TEST_P(StoreCommit, HistoryEntryReadsBackWhole) {
  HistoryEntry written = entry("r", 1, "run_started");
  written.payload = R"({"a":{"b":[1,null,true]}})";
  written.event_id = "event-1";
  written.at = at("0001-01-01T00:00:00Z");
  written.received_at = at("9999-12-31T23:59:59.999999Z");
  written.peer_uid = 4'294'967'295;
  written.peer_pid = 2'147'483'647;
  written.effect = Effect::kApplied;
  written.pass_id = "pass-1";
  Run run = running("r");
  run.last_seq = 1;
  commit(batch({insert(run)}, {written}));
  const StoredEvent event = history("r").front();
  EXPECT_GT(event.id, 0);
  EXPECT_EQ(event.entry.run_id, "r");
  EXPECT_EQ(event.entry.seq, 1);
  EXPECT_EQ(event.entry.type, "run_started");
  expect_same_json(event.entry.payload, written.payload);
  EXPECT_EQ(event.entry.event_id, "event-1");
  EXPECT_EQ(event.entry.at, written.at);
  EXPECT_EQ(event.entry.received_at, written.received_at);
  EXPECT_EQ(event.entry.peer_uid, written.peer_uid);
  EXPECT_EQ(event.entry.peer_pid, written.peer_pid);
  EXPECT_EQ(event.entry.effect, Effect::kApplied);
  EXPECT_EQ(event.entry.pass_id, "pass-1");
  EXPECT_EQ(event.recorder, self_.id);
  EXPECT_TRUE(event.inserted_at);
}

TEST_P(StoreCommit, NumbersKeepTheirExactValue) {
  Run run = running("numbers");
  run.input = R"({"big":123456789012345678901234567890,"small":0.1,"exact":123456789.123456789123456789,)"
              R"("huge":1e300,"tiny":-1.5E-300,"max":9223372036854775807,"list":[18446744073709551615,-0.001]})";
  run.last_seq = 1;
  HistoryEntry written = entry("numbers", 1);
  written.payload = *run.input;
  commit(batch({insert(run)}, {written}));
  expect_same_json(stored("numbers").input, run.input);
  expect_same_json(history("numbers").front().entry.payload, run.input);
}

TEST_P(StoreCommit, TextOfEveryKindIsKept) {
  const std::vector<std::string> texts{"Ünïcödé – 日本語 – 🎉",
                                       "quote \" backslash \\ dollar $1 percent % brace {}",
                                       "it's -- /* */ ;",
                                       "tab\tnewline\nreturn\r bell\x07",
                                       "\xEF\xBF\xBF\xF4\x8F\xBF\xBF",
                                       " spaces ",
                                       "NULL"};
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> entries;
  for (const std::string& text : texts) {
    Run run = running(text);
    run.council = text;
    run.parent_attempt_run_id = text;
    run.input = fmt::format("{{{}:{}}}", json_string(text), json_string(text));
    run.last_seq = 1;
    entries.push_back(entry(text, 1));
    entries.back().event_id = text;
    entries.back().payload = *run.input;
    runs.push_back(insert(run));
  }
  commit(batch(runs, entries));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const Run run = stored(texts[i]);
    EXPECT_EQ(run.run_id, texts[i]);
    EXPECT_EQ(run.council, texts[i]);
    EXPECT_EQ(run.parent_attempt_run_id, texts[i]);
    expect_same_json(run.input, entries[i].payload);
    EXPECT_EQ(history(texts[i]).front().entry.event_id, texts[i]);
  }
}

TEST_P(StoreCommit, LargePayloadsAndLongNamesAreKept) {
  const std::string large = fmt::format("{{\"text\":\"{}\"}}", std::string(1 << 20, 'x'));
  Run run = running(std::string(255, 'r'));
  run.council = std::string(255, 'c');
  run.input = large;
  run.result = large;
  run.error = large;
  run.last_seq = 1;
  HistoryEntry written = entry(run.run_id, 1);
  written.payload = large;
  commit(batch({insert(run)}, {written}));
  const Run read = stored(run.run_id);
  expect_same_json(read.input, large);
  expect_same_json(read.result, large);
  expect_same_json(read.error, large);
  expect_same_json(history(run.run_id).front().entry.payload, large);
}

TEST_P(StoreCommit, ManyRowsInOneBatch) {
  constexpr int kRuns = 3'000;
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> entries;
  std::vector<std::string> ids;
  for (int i = 0; i < kRuns; ++i) {
    Run run = running(fmt::format("run-{:05}", i));
    run.last_seq = 1;
    ids.push_back(run.run_id);
    entries.push_back(entry(run.run_id, 1));
    runs.push_back(insert(run));
  }
  commit(batch(runs, entries));
  EXPECT_EQ(store().load(ids).value().size(), ids.size());
  EXPECT_EQ(database().query("SELECT count(*) FROM council_ex_run_events"), std::to_string(kRuns));
}

TEST_P(StoreCommit, TimesAtTheEdgesOfTheCalendar) {
  Run run = running("old");
  run.started_at = at("0001-01-01T00:00:00Z");
  run.finalized_at = at("9999-12-31T23:59:59.999999Z");
  store_run(run);
  EXPECT_EQ(stored("old").started_at, run.started_at);
  EXPECT_EQ(stored("old").finalized_at, run.finalized_at);
}

TEST_P(StoreCommit, UpdateWritesOnlyWhatItSaysChanged) {
  store_run(full_run());
  Run changed = stored("full");
  changed.council = "other";
  changed.attempt = 7;
  changed.parent_attempt_run_id.reset();
  changed.oban_job_id = 7;
  changed.input.reset();
  changed.started_at.reset();
  changed.result = R"({"other":1})";
  changed.error.reset();
  changed.finalized_at.reset();
  changed.oban_job_state_at_finalize = "other";
  changed.connection = "moved";
  changed.sender_process = "moved";
  changed.worker_process = "moved";

  commit(batch({update(changed)}, {entry("full", 2)}));
  Run run = stored("full");
  EXPECT_EQ(run.council, "Elixir.Demo.Council");
  EXPECT_EQ(run.attempt, 2'147'483'647);
  EXPECT_TRUE(run.input && run.error && run.parent_attempt_run_id);
  EXPECT_EQ(run.connection + run.sender_process + run.worker_process, "movedmovedmoved");
  EXPECT_EQ(run.last_seq, 2);

  changed.last_seq = 2;
  commit(batch({update(changed, true, false)}, {entry("full", 3)}));
  run = stored("full");
  EXPECT_EQ(run.council, "other");
  EXPECT_EQ(run.attempt, 7);
  EXPECT_EQ(run.oban_job_id, 7);
  EXPECT_FALSE(run.input || run.parent_attempt_run_id || run.started_at);
  EXPECT_TRUE(run.error && run.finalized_at);
  EXPECT_EQ(run.oban_job_state_at_finalize, "executing");

  changed.last_seq = 3;
  changed.council = "third";
  commit(batch({update(changed, false, true)}, {entry("full", 4)}));
  run = stored("full");
  EXPECT_EQ(run.council, "other");
  EXPECT_FALSE(run.error || run.finalized_at);
  expect_same_json(run.result, R"({"other":1})");
  EXPECT_EQ(run.oban_job_state_at_finalize, "other");
}

TEST_P(StoreCommit, UpdateMovesTimesForwardAndKeepsTheFirst) {
  store_run(running("r"));
  const Timestamp old = at("2020-01-01T00:00:00Z");
  for (const char* column : {"inserted_at", "updated_at", "last_event_at"})
    database().set_time("runs", column, old, "1 = 1");
  store_event("r");
  const Run run = stored("r");
  EXPECT_EQ(run.inserted_at, old);
  EXPECT_GT(*run.updated_at, old);
  EXPECT_GT(*run.last_event_at, old);
}

TEST_P(StoreCommit, InsertOfAnExistingRowIsRacedAndWritesNothing) {
  store_run(running("r"));
  Run again = running("r");
  again.council = "another";
  again.last_seq = 1;
  Run other = running("other");
  other.last_seq = 1;
  EXPECT_EQ(try_commit(batch({insert(other), insert(again)}, {entry("other", 1), entry("r", 2)})), Committed::kRaced);
  EXPECT_EQ(stored("r").council, "demo");
  EXPECT_FALSE(store().find_run("other").value());
  EXPECT_EQ(history_size("r"), 1U);
  EXPECT_EQ(store().check_in(self_).value().applied.at(self_.incarnation), 1U);
  EXPECT_EQ(store().check_in(self_).value().ledger, ledger_);
}

TEST_P(StoreCommit, UpdateOfARowThatMovedIsRaced) {
  store_run(running("r"));
  const Run read = stored("r");
  store_event("r");
  Run late = read;
  late.status = Status::kCompleted;
  EXPECT_EQ(try_commit(batch({update(late)}, {entry("r", 3)})), Committed::kRaced);
  EXPECT_EQ(stored("r").status, Status::kRunning);
  EXPECT_EQ(stored("r").last_seq, 2);
  EXPECT_EQ(history_size("r"), 2U);
}

TEST_P(StoreCommit, UpdateOfAMissingRowIsRaced) {
  EXPECT_EQ(try_commit(batch({update(running("nobody"))}, {entry("nobody", 1)})), Committed::kRaced);
  EXPECT_FALSE(store().find_run("nobody").value());
  EXPECT_EQ(history_size("nobody"), 0U);
}

TEST_P(StoreCommit, NoWriteLeavesAFinishedStatus) {
  for (const Status finished : {Status::kCompleted, Status::kFailed, Status::kCancelled}) {
    Run run = running(std::string(to_string(finished)));
    run.status = finished;
    store_run(run);
    for (const Status status : {Status::kQueued, Status::kRunning, Status::kCompleted, Status::kFailed,
                                Status::kCancelled, Status::kStuck}) {
      Run after = stored(run.run_id);
      after.status = status;
      const auto written = try_commit(batch({update(after)}, {entry(run.run_id, after.last_seq + 1)}));
      EXPECT_EQ(written, status == finished ? Committed::kYes : Committed::kRaced)
          << to_string(finished) << " to " << to_string(status);
    }
    EXPECT_EQ(stored(run.run_id).status, finished);
  }
}

TEST_P(StoreCommit, StuckAndActiveRowsMayMove) {
  Run run = running("r");
  run.status = Status::kStuck;
  store_run(run);
  for (const Status status : {Status::kRunning, Status::kQueued, Status::kStuck, Status::kCompleted}) {
    Run after = stored("r");
    after.status = status;
    commit(batch({update(after)}, {entry("r", after.last_seq + 1)}));
    EXPECT_EQ(stored("r").status, status);
  }
}

TEST_P(StoreCommit, ATakenSeqIsRacedAndWritesNothing) {
  store_run(running("r"));
  EXPECT_EQ(try_commit(batch({}, {entry("other", 1), entry("r", 1)})), Committed::kRaced);
  EXPECT_EQ(history_size("r"), 1U);
  EXPECT_EQ(history_size("other"), 0U);
}

TEST_P(StoreCommit, ATakenEventIdIsRacedOnlyWithinItsRun) {
  HistoryEntry first = entry("r", 1);
  first.event_id = "e";
  commit(batch({}, {first}));
  HistoryEntry second = entry("r", 2);
  second.event_id = "e";
  EXPECT_EQ(try_commit(batch({}, {second})), Committed::kRaced);
  HistoryEntry elsewhere = entry("s", 1);
  elsewhere.event_id = "e";
  commit(batch({}, {elsewhere, entry("r", 2), entry("r", 3)}));
  EXPECT_EQ(history_size("r"), 3U);
}

TEST_P(StoreCommit, TwoEntriesOfOneSeqInABatchAreRaced) {
  EXPECT_EQ(try_commit(batch({}, {entry("r", 1), entry("r", 1)})), Committed::kRaced);
  EXPECT_EQ(history_size("r"), 0U);
}

TEST_P(StoreCommit, HistoryOfOneRunIsInOrderWithoutGap) {
  Run run = running("r");
  run.last_seq = 3;
  commit(batch({insert(run)}, {entry("r", 1, "a"), entry("r", 2, "b"), entry("r", 3, "c")}));
  std::vector<std::string> types;
  std::vector<std::int64_t> seqs;
  for (const StoredEvent& event : history("r")) {
    types.push_back(event.entry.type);
    seqs.push_back(event.entry.seq);
  }
  EXPECT_THAT(types, ElementsAre("a", "b", "c"));
  EXPECT_THAT(seqs, ElementsAre(1, 2, 3));
}

TEST_P(StoreCommit, ThePositionMustBeWhereTheBatchBegins) {
  store_run(running("r"));
  for (const std::uint64_t wrong : {0U, 2U, 7U}) {
    BatchWrite misplaced = batch({}, {entry("s", 1)});
    misplaced.from = wrong;
    EXPECT_EQ(try_commit(misplaced), Committed::kMisplaced) << wrong;
  }
  EXPECT_EQ(history_size("s"), 0U);
  EXPECT_EQ(store().check_in(self_).value().ledger, ledger_);
  commit(batch({}, {entry("s", 1)}));
  EXPECT_EQ(store().check_in(self_).value().applied.at(self_.incarnation), 2U);
}

TEST_P(StoreCommit, APositionThatDoesNotExistIsZero) {
  BatchWrite first = batch({}, {entry("r", 1)});
  first.from = 5;
  first.to = 6;
  EXPECT_EQ(try_commit(first), Committed::kMisplaced);
  EXPECT_THAT(store().check_in(self_).value().applied, IsEmpty());
  first.from = 0;
  EXPECT_EQ(try_commit(first), Committed::kYes);
  EXPECT_EQ(store().check_in(self_).value().applied.at(self_.incarnation), 6U);
}

TEST_P(StoreCommit, EachIncarnationAndRecorderHasAPositionOfItsOwn) {
  store_run(running("r"));
  RecorderSelf later = self_;
  later.incarnation = "incarnation-2";
  ASSERT_TRUE(store().take_over(later, self_.incarnation).value());
  BatchWrite write = batch({}, {entry("s", 1)});
  write.incarnation = later.incarnation;
  write.from = 0;
  write.to = 40;
  ASSERT_EQ(store().commit(later, write).value(), Committed::kYes);
  RecorderSelf other{"recorder-2", "incarnation-9", "host-2", "0.1.0"};
  BatchWrite others = batch({}, {entry("t", 1)});
  others.incarnation = other.incarnation;
  others.from = 0;
  others.to = 1;
  ASSERT_EQ(store().commit(other, others).value(), Committed::kYes);

  const auto checkpoint = store().check_in(later).value();
  EXPECT_EQ(checkpoint.applied.size(), 2U);
  EXPECT_EQ(checkpoint.applied.at("incarnation-1"), 1U);
  EXPECT_EQ(checkpoint.applied.at("incarnation-2"), 40U);
  EXPECT_EQ(store().check_in(other).value().applied.size(), 1U);
}

TEST_P(StoreCommit, ABatchOfAnOlderIncarnationMovesItsPosition) {
  store_run(running("r"));
  RecorderSelf later = self_;
  later.incarnation = "incarnation-2";
  ASSERT_TRUE(store().take_over(later, self_.incarnation).value());
  BatchWrite old = batch({}, {entry("s", 1)});  // records of the spool from before the restart
  ASSERT_EQ(old.incarnation, "incarnation-1");
  ASSERT_EQ(store().commit(later, old).value(), Committed::kYes);
  EXPECT_EQ(store().check_in(later).value().applied.at("incarnation-1"), 2U);
}

TEST_P(StoreCommit, ABatchWithoutIncarnationMovesNoPosition) {
  store_run(running("r"));
  BatchWrite write = batch({}, {entry("r", 2)});
  write.incarnation.clear();
  write.from = 99;
  write.ledger.applied = 2;
  ASSERT_EQ(store().commit(self_, write).value(), Committed::kYes);
  const auto checkpoint = store().check_in(self_).value();
  EXPECT_EQ(checkpoint.applied.at(self_.incarnation), 1U);
  EXPECT_EQ(checkpoint.ledger.applied, 2U);
}

TEST_P(StoreCommit, AnEmptyBatchMovesThePosition) {
  BatchWrite write = batch({}, {});
  write.to = 17;  // all of it was resent
  write.ledger.duplicate = 17;
  commit(write);
  const auto checkpoint = store().check_in(self_).value();
  EXPECT_EQ(checkpoint.applied.at(self_.incarnation), 17U);
  EXPECT_EQ(checkpoint.ledger.duplicate, 17U);
}

TEST_P(StoreCommit, TheLedgerIsKeptPerRecorder) {
  BatchWrite write = batch({}, {entry("r", 1)});
  write.ledger = {.applied = 5'000'000'000, .duplicate = 7, .conflicts = 3};
  commit(write);
  EXPECT_EQ(open()->check_in(self_).value().ledger, write.ledger);
  const RecorderSelf other{"recorder-2", "incarnation-9", "host-2", "0.1.0"};
  EXPECT_EQ(store().check_in(other).value().ledger, Ledger());
}

TEST_P(StoreCommit, ARecorderIsKnownFromItsFirstCheckIn) {
  auto checkpoint = store().check_in(self_).value();
  EXPECT_EQ(checkpoint.ledger, Ledger());
  EXPECT_THAT(checkpoint.applied, IsEmpty());
  EXPECT_EQ(store().list_recorders("", 5).value().size(), 1U);
}

TEST_P(StoreCommit, CheckInWritesWhoTheRecorderIs) {
  ASSERT_TRUE(store().check_in(self_));
  self_.host = "another";
  self_.version = "9.9.9";
  ASSERT_TRUE(store().check_in(self_));
  EXPECT_EQ(database().query("SELECT host || ' ' || version || ' ' || incarnation FROM council_ex_recorders"),
            "another 9.9.9 incarnation-1");
}

TEST_P(StoreCommit, OneIncarnationAtATimeHoldsTheId) {
  BatchWrite write = batch({}, {entry("r", 1)});
  write.ledger.applied = 3;
  commit(write);
  RecorderSelf copy = self_;
  copy.incarnation = "incarnation-2";
  copy.host = "host-2";
  const auto checkpoint = store().check_in(copy).value();
  ASSERT_TRUE(checkpoint.holder);
  EXPECT_EQ(checkpoint.holder->incarnation, self_.incarnation);
  EXPECT_EQ(checkpoint.holder->host, self_.host);
  EXPECT_GE(checkpoint.holder->seen_ago.count(), 0);
  EXPECT_EQ(store().check_in(copy).value().holder->last_seen, checkpoint.holder->last_seen)
      << "a look is no sign of life";
  EXPECT_FALSE(store().check_in(self_).value().holder);

  // Neither its ledger nor anything else is written by another.
  BatchWrite others = batch({}, {entry("s", 1)});
  others.incarnation = copy.incarnation;
  others.from = 0;
  others.ledger.applied = 99;
  EXPECT_EQ(store().commit(copy, others).value(), Committed::kMisplaced);
  EXPECT_EQ(store().check_in(self_).value().ledger, write.ledger);
  EXPECT_EQ(store().check_in(self_).value().applied.size(), 1U);
  EXPECT_EQ(database().query("SELECT count(*) FROM council_ex_run_events"), "1");

  EXPECT_FALSE(store().take_over(copy, "incarnation-0").value()) << "that is not the holder";
  EXPECT_TRUE(store().take_over(copy, self_.incarnation).value());
  EXPECT_EQ(store().commit(copy, others).value(), Committed::kYes);
  EXPECT_EQ(store().check_in(self_).value().holder->incarnation, copy.incarnation);
}

TEST_P(StoreCommit, PositionsAreKeptUnderTheOriginAndMovedByOneOfTwoOnly) {
  RecorderSelf renewed{"recorder-2", "incarnation-9", "host-2", "0.1.0", self_.id};
  const BatchWrite write = batch({}, {entry("r", 1)});
  commit(write);
  EXPECT_EQ(store().check_in(renewed).value().applied.at(self_.incarnation), write.to);
  EXPECT_EQ(store().check_in(renewed).value().ledger, Ledger());
  EXPECT_EQ(store().commit(renewed, write).value(), Committed::kMisplaced) << "the other one has applied these";
  BatchWrite next = batch({}, {entry("s", 1)});
  next.from = write.to;
  next.to = write.to + 1;
  EXPECT_EQ(store().commit(renewed, next).value(), Committed::kYes);
  EXPECT_EQ(store().commit(self_, next).value(), Committed::kMisplaced);
  EXPECT_EQ(store().check_in(self_).value().applied.at(self_.incarnation), next.to);
}

TEST_P(StoreCommit, LoadLeavesOutWhatIsMissing) {
  store_run(full_run());
  store_run(running("r"));
  const std::vector<std::string> asked{"nobody", "r", "full", ""};
  const auto runs = store().load(asked).value();
  EXPECT_THAT(ids_of(runs), UnorderedElementsAre("r", "full"));
  for (const Run& run : runs) {
    if (run.run_id != "full") continue;
    EXPECT_TRUE(run.input && run.result && run.error);
  }
  EXPECT_THAT(store().load({}).value(), IsEmpty());
}

TEST_P(StoreCommit, LoadSaysOfTextsOnlyThatTheyAreThere) {
  store_run(full_run());
  store_run(running("bare"));
  const Run full = loaded("full");
  for (const JsonColumn* json : {&full.input, &full.result, &full.error}) {
    EXPECT_TRUE(*json);
    EXPECT_FALSE(json->loaded());
  }
  EXPECT_EQ(full.started_at, full_run().started_at);
  EXPECT_EQ(full.finalized_at, full_run().finalized_at);
  EXPECT_EQ(full.last_seq, 1);
  EXPECT_EQ(full.stuck_pass, "pass-0");
  const Run bare = loaded("bare");
  for (const JsonColumn* json : {&bare.input, &bare.result, &bare.error}) {
    EXPECT_FALSE(*json);
    EXPECT_TRUE(json->loaded());
  }
}

TEST_P(StoreCommit, UpdateLeavesWhatWasNotLoadedAsItIs) {
  store_run(full_run());
  Run changed = loaded("full");
  changed.council = "other";
  changed.oban_job_state_at_finalize = "other";
  commit(batch({update(changed, true, true)}, {entry("full", 2)}));
  Run run = stored("full");
  EXPECT_EQ(run.council, "other");
  EXPECT_EQ(run.oban_job_state_at_finalize, "other");
  expect_same_json(run.input, full_run().input);
  expect_same_json(run.result, full_run().result);
  expect_same_json(run.error, full_run().error);

  changed = loaded("full");
  changed.result = R"({"another":1})";
  changed.error.reset();
  commit(batch({update(changed, true, true)}, {entry("full", 3)}));
  run = stored("full");
  expect_same_json(run.input, full_run().input);
  expect_same_json(run.result, R"({"another":1})");
  EXPECT_FALSE(run.error);
}

TEST_P(StoreCommit, OutcomesAreComparedAsJsonValues) {
  Run full = full_run();
  full.result = R"({"a":[1,{"b":"\u00e4"}],"n":1.50})";
  store_run(full);
  Run failed = full_run();
  failed.run_id = "failed";
  failed.result.reset();
  store_run(failed);
  const auto said = [](std::string run_id, std::optional<JsonText> result, std::optional<JsonText> error) {
    return SaidOutcome{std::move(run_id), {std::move(result), std::move(error)}};
  };
  const std::vector<SaidOutcome> all{
      said("full", R"({"n":1.5,  "a":[1,{"b":"ä"}]})", R"({"errors":["x"]})"),
      said("full", R"({"n":1.51, "a":[1,{"b":"ä"}]})", R"({"errors":["x","y"]})"),
      said("nobody", "{}", "{}"),
      said("failed", R"({"value":null})", R"({"errors":["x"]})"),
      said("full", std::nullopt, std::nullopt),
  };
  std::vector<std::pair<bool, bool>> same;
  for (const SameOutcome& outcome : store().compare_outcomes(all).value())
    same.emplace_back(outcome.result, outcome.error);
  EXPECT_THAT(same, ElementsAre(std::pair(true, true), std::pair(false, false), std::pair(false, false),
                                std::pair(false, true), std::pair(false, false)));
  EXPECT_THAT(store().compare_outcomes({}).value(), IsEmpty());
}

TEST_P(StoreCommit, OutcomesAreComparedHoweverManyThereAre) {
  store_run(full_run());
  std::vector<SaidOutcome> said(1'001, SaidOutcome{"full", {R"({"value":null})", std::nullopt}});
  said.back().said.result = "{}";
  const auto same = store().compare_outcomes(said).value();
  ASSERT_EQ(same.size(), said.size());
  EXPECT_EQ(std::count_if(same.begin(), same.end(), [](const SameOutcome& outcome) { return outcome.result; }),
            1'000);
  EXPECT_FALSE(same.back().result);
}

TEST_P(StoreCommit, KnownEventsAreFoundByRunAndId) {
  HistoryEntry one = entry("r", 1);
  one.event_id = "a";
  HistoryEntry two = entry("r", 2);
  two.event_id = "b";
  HistoryEntry other = entry("s", 1);
  other.event_id = "c";
  commit(batch({}, {one, two, other}));
  const std::vector<std::pair<std::string, std::string>> asked{
      {"r", "a"}, {"r", "c"}, {"s", "c"}, {"r", ""}, {"x", "a"}};
  EXPECT_THAT(store().known_events(asked).value(), UnorderedElementsAre(std::pair("r", "a"), std::pair("s", "c")));
  EXPECT_THAT(store().known_events({}).value(), IsEmpty());
}

TEST_P(StoreCommit, RefusedDataIsToldApartAndItsNeighboursCommitAlone) {
  database().refuse_rows("council_ex_run_events", "NEW.run_id = 'poison'", "the house does not like it");
  Run good = running("good");
  good.last_seq = 1;
  Run poison = running("poison");
  poison.last_seq = 1;
  BatchWrite both = batch({insert(good), insert(poison)}, {entry("good", 1), entry("poison", 1)});
  const auto refused = store().commit(self_, both);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kData);
  EXPECT_THAT(refused.error().message, HasSubstr("the house does not like it"));
  EXPECT_FALSE(store().find_run("good").value());
  EXPECT_FALSE(store().find_run("poison").value());

  commit(batch({insert(good)}, {entry("good", 1)}));
  EXPECT_EQ(history_size("good"), 1U);
  BatchWrite letter = batch({}, {});
  letter.to = position_ + 1;
  DeadLetter& dead = letter.dead_letters.emplace_back();
  dead.run_id = "poison";
  dead.record = "bytes";
  letter.ledger.dead_letters = 1;
  commit(letter);
  EXPECT_EQ(store().check_in(self_).value().ledger, ledger_);
}

TEST_P(StoreCommit, ARowRefusedByItsTableIsData) {
  database().refuse_rows("council_ex_runs", "NEW.council = 'poison'", "not this council");
  Run run = running("r");
  store_run(run);
  Run poison = stored("r");
  poison.council = "poison";
  const auto refused = store().commit(self_, batch({update(poison, true)}, {entry("r", 2)}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kData);
  EXPECT_EQ(stored("r").council, "demo");
  store_event("r");
}

TEST_P(StoreCommit, AUniqueIndexOfTheApplicationIsDataNotARace) {
  database().execute("CREATE UNIQUE INDEX houses_own ON council_ex_runs (council)");
  store_run(running("first"));
  Run second = running("second");
  second.last_seq = 1;
  const auto refused = store().commit(self_, batch({insert(second)}, {entry("second", 1)}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kData);
}

TEST_P(StoreCommit, HistoryThatItsRowDoesNotKnowIsDataNotARaceForEver) {
  store_run(running("r"));
  database().execute("DELETE FROM council_ex_runs");
  Run again = running("r");
  again.last_seq = 1;
  const auto refused = store().commit(self_, batch({insert(again)}, {entry("r", 1)}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kData);
  EXPECT_FALSE(store().find_run("r").value());
}

TEST_P(StoreCommit, AResendThatWasNotLookedUpIsRaced) {
  Run run = running("r");
  run.last_seq = 1;
  HistoryEntry first = entry("r", 1);
  first.event_id = "e";
  commit(batch({insert(run)}, {first}));
  HistoryEntry again = entry("r", 2);
  again.event_id = "e";
  EXPECT_EQ(try_commit(batch({update(run)}, {again})), Committed::kRaced);
  EXPECT_EQ(last_seq("r"), 1);
}

TEST_P(StoreCommit, AMissingTableIsAwayNotData) {
  database().execute("DROP TABLE council_ex_run_events");
  const auto failed = store().commit(self_, batch({}, {entry("r", 1)}));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable);
}

TEST_P(StoreCommit, TwoStoresSeeEachOthersCommits) {
  const auto other = open();
  store_run(running("r"));
  ASSERT_TRUE(other->find_run("r").value());
  const Run read = *other->find_run("r").value();
  store_event("r");
  const RecorderSelf second{"recorder-2", "incarnation-2", "host-2", "0.1.0"};
  BatchWrite late = batch({update(read)}, {entry("r", 2)});
  late.incarnation = second.incarnation;
  late.from = 0;
  EXPECT_EQ(other->commit(second, late).value(), Committed::kRaced);
  BatchWrite again = batch({update(*other->find_run("r").value())}, {entry("r", 3)});
  again.incarnation = second.incarnation;
  again.from = 0;
  EXPECT_EQ(other->commit(second, again).value(), Committed::kYes);
  EXPECT_EQ(stored("r").last_seq, 3);
}

TEST_P(StoreCommit, ARehearsalSaysWhatACommitWouldAndWritesNothing) {
  store_run(running("old"));
  const auto here = [&](std::vector<RunChange> runs, std::vector<HistoryEntry> history) {
    BatchWrite write = batch(std::move(runs), std::move(history));
    write.to = write.from;
    return write;
  };
  Run made = running("r");
  made.last_seq = 1;
  const std::vector<BatchWrite> writes{here({insert(made)}, {entry("r", 1)}), here({update(made)}, {entry("r", 2)})};
  const auto rehearse = [&] { return store().rehearse(self_, writes); };
  EXPECT_EQ(rehearse().value(), Committed::kYes);
  EXPECT_EQ(rehearse().value(), Committed::kYes) << "nothing was written";
  EXPECT_FALSE(store().find_run("r").value());
  EXPECT_EQ(history_size("r"), 0U);
  EXPECT_EQ(store().check_in(self_).value().ledger, ledger_);
  Run moved = stored("old");
  moved.last_seq = 7;
  const BatchWrite raced = here({update(moved)}, {});
  EXPECT_EQ(store().rehearse(self_, {&raced, 1}).value(), Committed::kRaced);
  BatchWrite elsewhere = writes.front();
  ++elsewhere.from;
  EXPECT_EQ(store().rehearse(self_, {&elsewhere, 1}).value(), Committed::kMisplaced);
  database().refuse_rows("council_ex_run_events", "NEW.seq = 2", "no second one");
  const auto refused = rehearse();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kData);
  EXPECT_THAT(refused.error().message, HasSubstr("no second one"));
  commit(batch({insert(made)}, {entry("r", 1)}));
}

TEST_P(StoreCommit, ADatabaseThatForgotTakesTheSameBatchAgain) {
  const BatchWrite write = batch({}, {entry("r", 1)});
  commit(write);
  EXPECT_EQ(store().commit(self_, write).value(), Committed::kMisplaced);
  for (const char* table : {"run_events", "positions", "recorders"}) {
    database().execute(fmt::format("DELETE FROM council_ex_{}", table));
  }
  EXPECT_EQ(store().commit(self_, write).value(), Committed::kYes);
  EXPECT_EQ(store().check_in(self_).value().ledger, write.ledger);
}

}  // namespace run_recorder::testing
