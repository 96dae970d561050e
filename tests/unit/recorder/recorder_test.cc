// From the spool to the rows, exactly once, whatever happens to the process, the database and the spool.
#include "recorder/recorder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "protocol/protocol.h"
#include "recorder_fixture.h"
#include "support/private_postgres.h"

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Three events of each of several runs, in turn.
std::vector<std::string> load(int runs, const std::string& prefix = "r") {
  std::vector<std::string> lines;
  for (int i = 0; i < runs; ++i) {
    lines.push_back(line_of("run_started", prefix + std::to_string(i), R"("council":"demo")"));
  }
  for (int i = 0; i < runs; ++i) lines.push_back(line_of("step", prefix + std::to_string(i), R"("n":1.10)"));
  for (int i = 0; i < runs; ++i) {
    lines.push_back(line_of("run_completed", prefix + std::to_string(i), R"("result":1)"));
  }
  return lines;
}

const std::vector<std::string> kWhole{"1 run_started applied", "2 step recorded", "3 run_completed applied"};

class BothDatabases : public RecorderFixture {};
class SqliteOnly : public RecorderFixture {};

// ---- exactly once

TEST_P(BothDatabases, AppliesWhatIsInTheSpoolBeforeItStarts) {
  append(load(3));
  start();
  settle();
  EXPECT_EQ(status().ledger.applied, 9U);
  for (const char* run_id : {"r0", "r1", "r2"}) EXPECT_EQ(history(run_id), kWhole);
  const Row run = row("r1");
  EXPECT_EQ(run.status, Status::kCompleted);
  EXPECT_EQ(run.council, "demo");
  EXPECT_EQ(run.recorder, spool_->id());
  EXPECT_EQ(run.result, GetParam() == DatabaseKind::kSqlite ? R"({"value":1})" : R"({"value": 1})");
}

TEST_P(BothDatabases, AppliesWhatComesWhileItRuns) {
  start();
  for (const std::string& line : load(3)) append({line});
  settle();
  for (const char* run_id : {"r0", "r1", "r2"}) EXPECT_EQ(history(run_id), kWhole);
}

TEST_P(BothDatabases, AppliesNothingTwiceOverManyRestarts) {
  const std::vector<std::string> lines = load(20);
  std::uint64_t appended = 0;
  for (int part = 0; part < 6; ++part) {
    if (part == 0) {
      start();
    } else {
      restart();
    }
    append({lines.begin() + part * 10, lines.begin() + (part + 1) * 10}, part % 2 == 0);
    appended += 10;
    if (part % 3 != 2) settle();  // else it is stopped in the middle of whatever it is doing
    expect_identity();
    EXPECT_EQ(status().accepted, appended);
  }
  settle();
  EXPECT_EQ(status().ledger.applied, 60U);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(history("r" + std::to_string(i)), kWhole);
}

TEST_P(BothDatabases, AppliesLargeBacklogsWithCommitsOverlapped) {
  recorder_options_.batch_events = 300;
  append(load(700));
  start();
  append(load(700, "s"));
  settle();
  EXPECT_EQ(status().ledger.applied, 4'200U);
  EXPECT_EQ(count("run_events"), 4'200U);
  EXPECT_EQ(count("run_events", "seq = 3 AND type = 'run_completed' AND effect = 'applied'"), 1'400U);
  EXPECT_EQ(count("runs", "status = 'completed' AND last_seq = 3"), 1'400U);
  EXPECT_EQ(council("demo").starts, 1'400U);
  EXPECT_EQ(council("demo").ends[0], 1'400U);
  restart();
  settle();
  EXPECT_EQ(count("run_events"), 4'200U);
}

TEST_P(BothDatabases, AppliesABacklogBesideAFewSenders) {
  recorder_options_.batch_events = 300;
  recorder_options_.paced_events = 30;
  recorder_options_.piece_rows = 7;
  append(load(1'000));
  start();
  for (int i = 0; i < 40; ++i) append(load(5, fmt::format("few{}-", i)));
  settle();
  EXPECT_EQ(status().ledger.applied, 3'600U);
  EXPECT_EQ(count("run_events"), 3'600U);
  EXPECT_EQ(count("runs", "status = 'completed' AND last_seq = 3"), 1'200U);
}

TEST_P(BothDatabases, KeepsTheOrderOfARunInAndAcrossBatches) {
  recorder_options_.batch_events = 7;
  std::vector<std::string> lines{line_of("run_started", "r")};
  for (int i = 0; i < 50; ++i) lines.push_back(line_of("step", "r", fmt::format(R"("n":{})", i)));
  append(lines);
  start();
  settle();
  const auto page = open_store()->list_events("r", 1'000, {});
  ASSERT_EQ(page.value().events.size(), 51U);
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(page.value().events[static_cast<std::size_t>(i) + 1].entry.payload, HasSubstr(std::to_string(i)));
  }
}

// ---- resends

TEST_P(BothDatabases, CountsAResendInTheSameBatchOnce) {
  const std::string line = line_of("run_started", "r", R"("id":"e1")");
  append({line, line, line_of("run_started", "s", R"("id":"e1")")});
  start();
  settle();
  EXPECT_EQ(status().ledger.applied, 2U);
  EXPECT_EQ(status().ledger.duplicate, 1U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied"));
}

TEST_P(BothDatabases, CountsAResendInALaterBatchAndAfterARestartOnce) {
  start();
  append({line_of("run_started", "r", R"("id":"e1")"), line_of("step", "r", R"("id":"e2")")});
  settle();
  append({line_of("step", "r", R"("id":"e2")"), line_of("step", "r", R"("id":"e3")")});
  settle();
  restart();
  append({line_of("step", "r", R"("id":"e3")"), line_of("run_completed", "r", R"("id":"e4")")});
  settle();
  EXPECT_EQ(status().ledger.applied, 4U);
  EXPECT_EQ(status().ledger.duplicate, 2U);
  EXPECT_EQ(status().ledger.conflicts, 0U);
  EXPECT_THAT(history("r"),
              ElementsAre("1 run_started applied", "2 step recorded", "3 step recorded", "4 run_completed applied"));
}

TEST_P(BothDatabases, CountsResendsInOverlappedBatchesOnce) {
  recorder_options_.batch_events = 250;
  std::vector<std::string> lines;
  for (int i = 0; i < 1'000; ++i) {
    lines.push_back(line_of("step", "r" + std::to_string(i % 500), fmt::format(R"("id":"e{}")", i / 500 % 1)));
  }
  append(lines);
  start();
  settle();
  EXPECT_EQ(status().ledger.applied, 500U);
  EXPECT_EQ(status().ledger.duplicate, 500U);
  EXPECT_EQ(count("run_events"), 500U);
}

TEST_P(BothDatabases, CountsConflicts) {
  append({line_of("run_completed", "r", R"("result":1)"), line_of("run_completed", "r", R"("result":2)"),
          line_of("run_started", "r")});
  start();
  settle();
  EXPECT_EQ(status().ledger.conflicts, 2U);
  EXPECT_EQ(status().ledger.applied, 3U);
  EXPECT_THAT(history("r"),
              ElementsAre("1 run_completed applied", "2 run_completed conflict", "3 run_started conflict"));
}

TEST_P(BothDatabases, ComparesAnotherEndWithTheOneRecordedWhetherTheRowIsRememberedOrLoaded) {
  start();
  append({line_of("run_completed", "r", R"("result":{"a":[1.0,{"b":"ä"}]})"),
          line_of("run_failed", "f", R"("errors":[{"kind":"x"}])")});
  settle();
  const std::string result = query("SELECT result FROM council_ex_runs WHERE run_id = 'r'");
  for (const std::uint64_t conflicts : {3U, 6U}) {
    append({line_of("run_completed", "r", R"("result":{ "a": [1, {"b":"\u00e4"}] })"),
            line_of("run_failed", "f", R"("errors":[{"kind":"\u0078"}])")});
    append({line_of("run_completed", "r", R"("result":{"a":[1.1,{"b":"ä"}]})"), line_of("run_completed", "r"),
            line_of("run_failed", "f", R"("errors":["x"])")});
    settle();
    EXPECT_EQ(status().ledger.conflicts, conflicts);
    restart();
  }
  EXPECT_EQ(query("SELECT result FROM council_ex_runs WHERE run_id = 'r'"), result);
  EXPECT_EQ(row("f").error->find("errors"), 2U);
}

TEST_P(BothDatabases, ComparesAnotherEndWithTheOneOfTheBatchBefore) {
  recorder_options_.batch_events = 250;
  std::vector<std::string> lines;
  for (int i = 0; i < 750; ++i) {
    lines.push_back(line_of("run_completed", fmt::format("r{}", i % 250), fmt::format(R"("result":{})", i / 500)));
  }
  append(lines);
  start();
  settle();
  EXPECT_EQ(status().ledger.applied, 750U);
  EXPECT_EQ(status().ledger.conflicts, 250U);
  EXPECT_EQ(count("run_events", "effect = 'conflict' AND seq = 3"), 250U);
  EXPECT_EQ(count("run_events", "effect = 'recorded' AND seq = 2"), 250U);
}

TEST_P(BothDatabases, LeavesTheTextsOfALoadedRowAsTheyAre) {
  append({line_of("run_queued", "r", R"("input":{"a":1})")});
  start();
  settle();
  restart();
  append({line_of("run_started", "r", R"("input":{"a":2},"council":"demo","attempt":2)")});
  settle();
  restart();
  append({line_of("run_completed", "r", R"("result":{"b":1})")});
  settle();
  restart();
  append({line_of("step", "r"), line_of("run_queued", "r", R"("oban_job_id":7)")});
  settle();
  const Row run = row("r");
  EXPECT_TRUE(json_equal(run.input.value(), R"({"a":1})"));
  EXPECT_TRUE(json_equal(run.result.value(), R"({"b":1})"));
  EXPECT_EQ(run.council, "demo");
  EXPECT_EQ(run.oban_job_id, 7);
}

// ---- the rows belong to others too

TEST_P(BothDatabases, LoadsARowAgainThatAnotherWriterMoved) {
  start();
  append({line_of("run_started", "r")});
  settle();
  const RecorderSelf other{"recorder-x", "i-x", "host-x", "0.1.0"};
  const auto store = open_store();
  ASSERT_TRUE(store->check_in(other));
  ASSERT_EQ(store->mark_stuck(other, "pass-1", std::vector<StuckMark>{{"r", 1, R"({"kind":"stuck"})", {}}})->size(),
            1U);
  append({line_of("run_completed", "r", R"("result":1)")});
  settle();
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_stuck applied", "3 run_completed revived",
                                        "4 run_revived recorded"));
  EXPECT_EQ(row("r").status, Status::kCompleted);
  EXPECT_EQ(row("r").error, std::nullopt);
}

TEST_P(BothDatabases, LoadsRowsAgainThatMovedUnderOverlappedBatches) {
  recorder_options_.batch_events = 250;
  start();
  append(load(250));
  settle();
  const RecorderSelf other{"recorder-x", "i-x", "host-x", "0.1.0"};
  append(load(250, "s"));
  settle();
  // Runs that this recorder never saw begin: it takes their first event for new.
  for (const char* run_id : {"t0", "t111", "t249"}) {
    execute(
        fmt::format("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at, last_seq) "
                    "VALUES ('{}', 'theirs', 'running', '2026-01-01T00:00:00.000000Z', "
                    "'2026-01-01T00:00:00.000000Z', 0)",
                    run_id));
  }
  append(load(250, "t"), false);
  append(load(250, "u"), false);
  settle();
  EXPECT_EQ(status().ledger.applied, 3'000U);
  EXPECT_EQ(row("t111").council, "theirs");
  EXPECT_EQ(history("t110"), kWhole);
  EXPECT_EQ(history("u249"), kWhole);
  EXPECT_EQ(history("t111").size(), 3U);
  EXPECT_EQ(count("runs", "status = 'completed'"), 1'000U);
}

TEST_P(BothDatabases, DoesNotTryForEverWhereRowAndHistoryDoNotFit) {
  start();
  append({line_of("run_started", "r"), line_of("run_started", "s")});
  settle();
  // Somebody writes into the history what the row does not know of.
  execute(
      "INSERT INTO council_ex_run_events (run_id, seq, type, inserted_at) VALUES "
      "('r', 2, 'strange', '2026-01-01T00:00:00.000000Z')");
  append({line_of("step", "r"), line_of("step", "s"), line_of("run_completed", "s")});
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_EQ(status().ledger.applied, 4U);
  EXPECT_EQ(row("s").status, Status::kCompleted);
}

// ---- poison

TEST_P(BothDatabases, DeadLettersWhatTheDatabaseRefusesAndAppliesItsNeighbours) {
  start();
  settle();
  refuse_rows("run_events", "NEW.type = 'poison'");
  std::vector<std::string> lines = load(10);
  lines.insert(lines.begin() + 7, line_of("poison", "r3", R"("id":"e1","secret":42)"));
  lines.insert(lines.begin() + 20, line_of("poison", "only"));
  append(lines);
  settle();
  EXPECT_EQ(status().ledger.applied, 30U);
  EXPECT_EQ(status().ledger.dead_letters, 2U);
  EXPECT_EQ(status().accepted, 32U);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(history("r" + std::to_string(i)), kWhole);
  EXPECT_EQ(count("runs", "run_id = 'only'"), 0U);

  const auto letters = open_store()->list_dead_letters(100, {}).value().dead_letters;
  ASSERT_EQ(letters.size(), 2U);
  EXPECT_EQ(letters[0].run_id, "r3");
  EXPECT_EQ(letters[0].type, "poison");
  EXPECT_EQ(letters[0].event_id, "e1");
  EXPECT_EQ(letters[0].recorder, spool_->id());
  EXPECT_THAT(letters[0].reason, HasSubstr("not this one"));
  EXPECT_EQ(letters[0].line, lines[7]);
  EXPECT_EQ(letters[0].record, envelope_of(lines[7]));
  EXPECT_EQ(letters[1].run_id, "only");
}

TEST_P(BothDatabases, DeadLettersInOverlappedBatchesToo) {
  recorder_options_.batch_events = 250;
  start();
  settle();
  refuse_rows("run_events", "NEW.type = 'poison'");
  std::vector<std::string> lines = load(250);
  lines.insert(lines.begin() + 400, line_of("poison", "r3"));
  append(lines, false);
  append(load(250, "s"), false);
  settle();
  EXPECT_EQ(status().ledger.applied, 1'500U);
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_EQ(count("runs", "status = 'completed'"), 500U);
}

TEST_P(BothDatabases, RetriesADeadLetter) {
  start();
  settle();
  refuse_rows("run_events", "NEW.type = 'poison'");
  append({line_of("run_started", "r"), line_of("poison", "r", R"("id":"e1")")});
  settle();
  const std::int64_t id = open_store()->list_dead_letters(1, {}).value().dead_letters.front().id;
  EXPECT_EQ(recorder_->retry_dead_letter(id).value(), Recorder::Retried::kDead);
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  expect_identity();

  accept_rows("run_events");
  EXPECT_EQ(recorder_->retry_dead_letter(id).value(), Recorder::Retried::kApplied);
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(status().ledger.applied, 2U);
  EXPECT_EQ(status().accepted, 2U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 poison recorded"));
  EXPECT_EQ(recorder_->retry_dead_letter(id).error().kind, ErrorKind::kNotFound);
  restart();
  settle();
  EXPECT_EQ(status().ledger.applied, 2U);
  EXPECT_EQ(status().accepted, 2U);
}

TEST_P(BothDatabases, CountsRunsByCouncilOnceTheyAreCommitted) {
  start();
  settle();
  refuse_rows("runs", "NEW.council = 'refused'");
  append({line_of("run_started", "a", R"("council":"one")"), line_of("run_completed", "a"),
          line_of("run_started", "b", R"("council":"two")")});
  append({line_of("run_started", "c", R"("council":"refused")")});
  settle();
  append({line_of("run_failed", "b")});
  settle();
  EXPECT_THAT(council("one").ends, ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(council("two").ends, ElementsAre(0, 1, 0, 0));
  EXPECT_EQ(council("two").starts, 1U);
  EXPECT_EQ(council("two").last_start, row("b").started_at);
  EXPECT_EQ(council("one").last_success, row("a").finalized_at);
  EXPECT_EQ(status().councils.size(), 2U) << "what was refused is no run";
  accept_rows("runs");
  const std::int64_t id = open_store()->list_dead_letters(1, {}).value().dead_letters.front().id;
  ASSERT_EQ(recorder_->retry_dead_letter(id).value(), Recorder::Retried::kApplied);
  EXPECT_EQ(council("refused").starts, 1U);
}

TEST_P(BothDatabases, RetriesADeadLetterWhoseEventWasResentMeanwhile) {
  start();
  settle();
  refuse_rows("run_events", "NEW.type = 'poison'");
  append({line_of("poison", "r", R"("id":"e1")")});
  settle();
  accept_rows("run_events");
  append({line_of("poison", "r", R"("id":"e1")")});
  settle();
  const std::int64_t id = open_store()->list_dead_letters(1, {}).value().dead_letters.front().id;
  EXPECT_EQ(recorder_->retry_dead_letter(id).value(), Recorder::Retried::kDuplicate);
  EXPECT_EQ(status().ledger.applied, 1U);
  EXPECT_EQ(status().ledger.duplicate, 1U);
  EXPECT_EQ(status().ledger.dead_letters, 0U);
}

TEST_P(BothDatabases, CountsARetriedConflict) {
  start();
  settle();
  refuse_rows("run_events", "NEW.type = 'run_started'");
  append({line_of("run_started", "r"), line_of("run_completed", "r")});
  settle();
  accept_rows("run_events");
  const std::int64_t id = open_store()->list_dead_letters(1, {}).value().dead_letters.front().id;
  EXPECT_EQ(recorder_->retry_dead_letter(id).value(), Recorder::Retried::kApplied);
  EXPECT_EQ(status().ledger.conflicts, 1U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_completed applied", "2 run_started conflict"));
  EXPECT_TRUE(row("r").started_at.has_value()) << "a late start still fills what no event gave";
}

TEST_P(BothDatabases, RemovesADeadLetter) {
  start();
  settle();
  refuse_rows("runs", "NEW.run_id = 'poison'");
  append({line_of("run_started", "poison"), line_of("run_started", "r")});
  settle();
  const std::int64_t id = open_store()->list_dead_letters(1, {}).value().dead_letters.front().id;
  EXPECT_TRUE(recorder_->remove_dead_letter(id));
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(status().ledger.dead_letters_removed, 1U);
  EXPECT_EQ(status().accepted, 2U);
  EXPECT_EQ(recorder_->remove_dead_letter(id).error().kind, ErrorKind::kNotFound);
  append({line_of("run_completed", "r")});
  restart();
  settle();
  EXPECT_EQ(status().ledger.dead_letters_removed, 1U);
  EXPECT_EQ(status().accepted, 3U);
}

TEST_P(BothDatabases, LeavesDeadLettersOfOtherRecordersAlone) {
  start();
  settle();
  const RecorderSelf other{"recorder-x", "i-x", "host-x", "0.1.0"};
  const auto store = open_store();
  ASSERT_TRUE(store->check_in(other));
  BatchWrite write;
  write.incarnation = "i-x";
  write.to = 1;
  write.ledger.dead_letters = 1;
  DeadLetter letter;
  letter.recorder = other.id;
  letter.run_id = "r";
  letter.record = envelope_of(line_of("step", "r"));
  write.dead_letters.push_back(letter);
  ASSERT_EQ(store->commit(other, write).value(), Committed::kYes);
  const std::int64_t id = store->list_dead_letters(1, {}).value().dead_letters.front().id;
  EXPECT_EQ(recorder_->retry_dead_letter(id).error().kind, ErrorKind::kConflict);
  EXPECT_EQ(recorder_->remove_dead_letter(id).error().kind, ErrorKind::kConflict);
}

TEST_P(BothDatabases, DeadLettersARecordThatIsNoEvent) {
  append({line_of("run_started", "r")});
  append_record("not an envelope at all");
  append_record(envelope_of(R"({"type":"run_started"})"));
  append({line_of("run_completed", "r")});
  start();
  settle();
  EXPECT_EQ(status().ledger.applied, 2U);
  EXPECT_EQ(status().ledger.dead_letters, 2U);
  EXPECT_EQ(row("r").status, Status::kCompleted);
  const auto letters = open_store()->list_dead_letters(100, {}).value().dead_letters;
  EXPECT_EQ(letters[0].record, "not an envelope at all");
  EXPECT_THAT(letters[1].reason, HasSubstr("run_id"));
  EXPECT_EQ(recorder_->retry_dead_letter(letters[0].id).value(), Recorder::Retried::kDead);
}

// ---- away

TEST_P(BothDatabases, ADatabaseThatFailsEveryCommitIsAway) {
  start();
  settle();
  const std::uint64_t reconnects = status().reconnects;
  refuse_rows("positions", "true");
  append({line_of("run_started", "r")});
  const auto tries = [&] {
    std::uint64_t sum = 0;
    for (const auto& [kind, count] : status().errors) sum += count;
    return sum;
  };
  EXPECT_TRUE(eventually([&] { return tries() >= 6; }));
  EXPECT_EQ(status().database, DatabaseState::kRefused);
  EXPECT_EQ(status().reconnects, reconnects) << "to be connected to is not to be back";
  EXPECT_THAT(status().database_error, HasSubstr("not this one"));
  EXPECT_EQ(status().waiting, 1U);
  expect_identity();
  accept_rows("positions");
  settle();
  EXPECT_EQ(status().reconnects, reconnects + 1);
  EXPECT_EQ(status().ledger.applied, 1U);
  EXPECT_EQ(history("r").size(), 1U);
}

// ---- whose fault it is

TEST_P(BothDatabases, DeadLettersNothingWhereTheDatabaseRefusesEverything) {
  start();
  append({line_of("run_started", "before")});
  settle();
  refuse_rows("run_events", "true");
  append(load(3));
  EXPECT_TRUE(eventually([&] { return status().database == DatabaseState::kRefused; }));
  EXPECT_THAT(status().database_error, HasSubstr("not this one"));
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(status().waiting, 9U);
  expect_identity();
  accept_rows("run_events");
  settle();
  EXPECT_EQ(status().ledger.applied, 10U);
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(count("runs", "run_id LIKE 'run-recorder-probe%'"), 0U);
}

// The probe's own values are refused, and a row like the newest is: but another event is not.
TEST_P(BothDatabases, AsksTheEventsBehindWhereTheProbeIsRefused) {
  start();
  append({line_of("run_started", "r", R"("council":"given")"), line_of("run_started", "old", R"("council":"past")")});
  settle();
  refuse_rows("runs", "NEW.council NOT IN ('given')");
  append({line_of("run_started", "bad", R"("council":"other")"), line_of("step", "r"),
          line_of("run_started", "good", R"("council":"given")")});
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_EQ(status().ledger.applied, 4U);
  EXPECT_EQ(history("good").size(), 1U);
  EXPECT_EQ(count("runs", "run_id = 'bad'"), 0U);
}

class PostgresOnly : public RecorderFixture {
 protected:
  // A trigger of the application's that raises this code where the condition on NEW holds.
  void raise(const std::string& sqlstate, const std::string& condition) const {
    execute(
        fmt::format("CREATE OR REPLACE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "RAISE EXCEPTION 'a code of its own' USING ERRCODE = '{}'; END $$; "
                    "DROP TRIGGER IF EXISTS raised ON council_ex_run_events; "
                    "CREATE TRIGGER raised BEFORE INSERT ON council_ex_run_events FOR EACH ROW WHEN ({}) "
                    "EXECUTE FUNCTION raise_it()",
                    sqlstate, condition));
  }
};

TEST_P(PostgresOnly, DeadLettersAnEventWhateverCodeItIsRefusedWith) {
  start();
  settle();
  std::uint64_t dead = 0;
  for (const char* sqlstate : {"54000", "42501", "21000", "44000", "55000", "XX000", "U0001", "0A000", "42P01"}) {
    raise(sqlstate, "NEW.type = 'poison'");
    std::vector<std::string> lines = load(20, sqlstate);
    lines.insert(lines.begin() + 30, line_of("poison", std::string(sqlstate) + "3"));
    append(lines);
    settle();
    EXPECT_EQ(status().ledger.dead_letters, ++dead) << sqlstate;
    EXPECT_EQ(status().ledger.applied, 60 * dead) << sqlstate;
    EXPECT_EQ(history(std::string(sqlstate) + "3"), kWhole);
    EXPECT_EQ(query("SELECT sqlstate FROM council_ex_dead_letters ORDER BY id DESC LIMIT 1"), sqlstate);
    EXPECT_EQ(recorder_->retry_dead_letter(static_cast<std::int64_t>(dead)).value(), Recorder::Retried::kDead);
    EXPECT_EQ(query("SELECT tries FROM council_ex_dead_letters ORDER BY id DESC LIMIT 1"), "2");
  }
  EXPECT_EQ(status().reconnects, 0U) << "no outage";
}

TEST_P(PostgresOnly, DeadLettersAnEventThatARowPolicyHides) {
  const std::string writer = "writer_" + query("SELECT current_database()");
  execute(fmt::format("CREATE ROLE {0} LOGIN; GRANT ALL ON SCHEMA public TO {0}", writer));
  migrate(store_options(), false).value();
  execute(
      fmt::format("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}; ALTER TABLE council_ex_runs ENABLE ROW LEVEL "
                  "SECURITY; CREATE POLICY p ON council_ex_runs USING (true) WITH CHECK (council <> 'secret')",
                  writer));
  recorder_options_.store = store_options();
  recorder_options_.store.url = PrivatePostgres::shared().url(PrivatePostgres::database_of(url()), writer);
  recorder_ = std::make_unique<Recorder>(recorder_options_, *spool_, NamedQueues{});
  append({line_of("run_started", "a", R"("council":"demo")"), line_of("run_started", "b", R"("council":"secret")"),
          line_of("run_started", "c", R"("council":"demo")")});
  start();
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_EQ(query("SELECT sqlstate || run_id FROM council_ex_dead_letters"), "42501b");
  EXPECT_EQ(count("runs"), 2U);
  stop();
  execute(fmt::format("DROP OWNED BY {0}; DROP ROLE {0}", writer));
}

TEST_P(PostgresOnly, AMissingColumnMakesNoDeadLetters) {
  start();
  append({line_of("run_started", "before")});
  settle();
  execute("ALTER TABLE council_ex_run_events RENAME COLUMN effect TO other");
  append(load(3));
  EXPECT_TRUE(eventually([&] { return status().database == DatabaseState::kRefused; }));
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  execute("ALTER TABLE council_ex_run_events RENAME COLUMN other TO effect");
  settle();
  EXPECT_EQ(status().ledger.applied, 10U);
}

// Each transaction with more than three entries of the history loses its connection.
TEST_P(PostgresOnly, RetriesASmallerBatchAfterALostConnection) {
  start();
  settle();
  execute(
      "CREATE FUNCTION too_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF (SELECT count(*) FROM added) > 3 "
      "THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF; RETURN NULL; END $$; "
      "CREATE TRIGGER too_long AFTER INSERT ON council_ex_run_events REFERENCING NEW TABLE AS added FOR EACH "
      "STATEMENT "
      "EXECUTE FUNCTION too_long()");
  append(load(100));
  settle();
  EXPECT_EQ(status().ledger.applied, 300U);
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(count("run_events"), 300U);
}

TEST_P(PostgresOnly, DeadLettersWhatEndsItsConnectionAloneAgainAndAgain) {
  recorder_options_.suspect = {3, std::chrono::milliseconds(0)};
  start();
  settle();
  execute(
      "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM "
      "pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END $$; "
      "CREATE TRIGGER die BEFORE INSERT ON council_ex_run_events FOR EACH ROW WHEN (NEW.type = 'poison') "
      "EXECUTE FUNCTION die()");
  append({line_of("run_started", "r"), line_of("poison", "r"), line_of("run_completed", "r")});
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_completed applied"));
  EXPECT_EQ(recorder_->retry_dead_letter(1).value(), Recorder::Retried::kDead);
  EXPECT_EQ(status().database, DatabaseState::kUp);
}

// As idle_session_timeout does, or a pooler.
TEST_P(PostgresOnly, AnIdleConnectionThatTheServerClosesIsNoOutage) {
  start();
  for (int i = 0; i < 3; ++i) {
    append({line_of("run_started", "r" + std::to_string(i))});
    settle();
    PrivatePostgres::shared().query(
        "postgres", fmt::format("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{}'",
                                PrivatePostgres::database_of(url())));
  }
  append({line_of("run_started", "last")});
  settle();
  EXPECT_EQ(status().ledger.applied, 4U);
  EXPECT_EQ(status().reconnects, 0U);
  EXPECT_TRUE(status().errors.empty());
}

INSTANTIATE_TEST_SUITE_P(Recorder, PostgresOnly, ::testing::Values(DatabaseKind::kPostgres), name_of);

// What SQLite has no code for: a trigger that fails in its own way.
TEST_P(SqliteOnly, DeadLettersWhatATriggerOfTheApplicationsCannotRead) {
  start();
  settle();
  execute(
      "CREATE TRIGGER theirs BEFORE INSERT ON council_ex_run_events WHEN NEW.type = 'poison' BEGIN "
      "SELECT json_extract('{no json', '$.a'); END");
  append({line_of("run_started", "r"), line_of("poison", "r"), line_of("run_completed", "r")});
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_EQ(query("SELECT sqlstate FROM council_ex_dead_letters"), "HY000");
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_completed applied"));
}

INSTANTIATE_TEST_SUITE_P(Recorder, BothDatabases, ::testing::Values(DatabaseKind::kSqlite, DatabaseKind::kPostgres),
                         name_of);

TEST_P(SqliteOnly, AcceptsWhileTheDatabaseIsAwayAndCatchesUp) {
  hide_database();
  start();
  append(load(5));
  ASSERT_TRUE(eventually([&] { return is_away(); }));
  EXPECT_EQ(status().waiting, 15U);
  EXPECT_EQ(status().accepted, 15U);
  EXPECT_FALSE(status().database_error.empty());
  EXPECT_TRUE(status().database_since.has_value());
  EXPECT_EQ(recorder_->pending_until(10), 10U);
  EXPECT_FALSE(recorder_->wait_applied(1, std::chrono::milliseconds{0}));
  EXPECT_EQ(recorder_->retry_dead_letter(1).error().kind, ErrorKind::kUnavailable);
  show_database();
  settle();
  EXPECT_EQ(recorder_->pending_until(10), 0U);
  EXPECT_TRUE(recorder_->back_since().has_value());
  EXPECT_EQ(count("runs", "status = 'completed'"), 5U);
}

TEST_P(SqliteOnly, KnowsTheLedgerFromTheHintWhileTheDatabaseIsAway) {
  start();
  append(load(5));
  append({line_of("step", "r0", R"("id":"e1")"), line_of("step", "r0", R"("id":"e1")")});
  settle();
  stop();
  hide_database();
  open_spool();
  start();
  append({line_of("step", "r1")});
  ASSERT_TRUE(eventually([&] { return is_away(); }));
  EXPECT_EQ(status().ledger.applied, 16U);
  EXPECT_EQ(status().ledger.duplicate, 1U);
  EXPECT_EQ(status().waiting, 1U);
  EXPECT_EQ(status().accepted, 18U);
  show_database();
  settle();
  EXPECT_EQ(status().accepted, 18U);
  EXPECT_EQ(status().ledger.applied, 17U);
}

TEST_P(SqliteOnly, StopsAtOnceWhileTheDatabaseIsAway) {
  hide_database();
  start();
  append(load(1));
  ASSERT_TRUE(eventually([&] { return is_away(); }));
  EXPECT_FALSE(recorder_->stop(std::chrono::hours{1})) << "something is left, in the spool";
  EXPECT_EQ(recorder_->retry_dead_letter(1).error().message, "the daemon is stopping");
}

TEST_P(SqliteOnly, AppliesWhatItCanWhenItIsStopped) {
  append(load(100));
  start();
  EXPECT_TRUE(recorder_->stop(kLongest));
  EXPECT_EQ(status().ledger.applied, 300U);
}

TEST_P(SqliteOnly, WaitsForASchemaItMayOnlyVerify) {
  recorder_options_.migrate = false;
  start();
  append({line_of("run_started", "r")});
  ASSERT_TRUE(eventually([&] { return status().database == DatabaseState::kRefused; }));
  EXPECT_EQ(status().waiting, 1U);
  ASSERT_TRUE(migrate(store_options(), false));
  settle();
  EXPECT_EQ(status().ledger.applied, 1U);
}

// ---- a database that goes back

TEST_P(SqliteOnly, AppliesAgainWhatTheDatabaseForgot) {
  start();
  append({line_of("run_started", "r"), line_of("run_started", "s")});
  settle();
  copy_database("backup.db");
  append({line_of("run_completed", "r"), line_of("step", "s", R"("id":"e1")"), line_of("step", "s", R"("id":"e1")")});
  settle();
  EXPECT_EQ(row("r").status, Status::kCompleted);
  stop();
  restore_database("backup.db");
  EXPECT_EQ(row("r").status, Status::kRunning);
  open_spool();
  start();
  settle();
  EXPECT_EQ(row("r").status, Status::kCompleted);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_completed applied"));
  EXPECT_THAT(history("s"), ElementsAre("1 run_started applied", "2 step recorded"));
  EXPECT_EQ(status().ledger.applied, 4U);
  EXPECT_EQ(status().ledger.duplicate, 1U);
  EXPECT_EQ(status().accepted, 5U);
  EXPECT_EQ(status().forgotten, 0U);
}

TEST_P(SqliteOnly, AppliesAgainWhatTheDatabaseForgotWhileItRuns) {
  start();
  append(load(5));
  settle();
  copy_database("backup.db");
  append(load(5, "s"));
  settle();
  restore_database("backup.db");
  append({line_of("run_started", "t")});
  settle();
  ASSERT_TRUE(eventually([&] { return status().ledger.applied == 31; }));
  EXPECT_EQ(count("run_events"), 31U);
  EXPECT_EQ(count("runs", "status = 'completed'"), 10U);
}

TEST_P(SqliteOnly, AppliesEverythingKeptAgainToAnEmptyDatabase) {
  start();
  append(load(5));
  settle();
  restart();
  append(load(5, "s"));
  settle();
  stop();
  std::filesystem::remove(sqlite_path(url()));
  std::filesystem::remove(sqlite_path(url()) + "-wal");
  std::filesystem::remove(sqlite_path(url()) + "-shm");
  open_spool();
  start();
  settle();
  EXPECT_EQ(count("runs", "status = 'completed'"), 10U);
  EXPECT_EQ(status().ledger.applied, 30U);
  EXPECT_EQ(status().accepted, 30U);
}

TEST_P(SqliteOnly, ASegmentThatIsGoneIsNoLossWhereTheDatabaseHasItsEvents) {
  start();
  append(load(5));
  settle();
  restart();
  const std::uint64_t first = append(load(5, "s"));
  settle();
  stop();
  spool_.reset();
  std::filesystem::remove(spool_path() / fmt::format("{:020}.seg", first));
  open_spool();
  start();
  append({line_of("run_started", "t")});
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(status().damaged, 0U);
  EXPECT_EQ(status().forgotten, 0U);
  EXPECT_EQ(status().ledger.applied, 31U);
  EXPECT_EQ(status().accepted, 31U);
}

TEST_P(SqliteOnly, ARenewedIdHasALedgerOfItsOwnAndAppliesNothingAgain) {
  start();
  append(load(5));
  settle();
  stop();
  spool_.reset();
  open_spool();
  const std::string id = spool_->renew();
  append(load(5, "s"), false);
  make_recorder();
  start();
  settle();
  EXPECT_EQ(count("run_events"), 30U);
  EXPECT_EQ(count("run_events", "recorder = '" + id + "'"), 15U);
  EXPECT_EQ(status().ledger.applied, 15U);
  EXPECT_EQ(status().accepted, 15U);
  EXPECT_EQ(status().forgotten, 0U);
  restart();
  settle();
  EXPECT_EQ(status().accepted, 15U);
}

TEST_P(SqliteOnly, SaysWhatTheDatabaseForgotAndTheSpoolNoLongerKeeps) {
  spool_options_.keep = std::chrono::milliseconds{0};
  spool_.reset();
  open_spool();
  start();
  append({line_of("run_started", "r")});
  settle();
  copy_database("backup.db");
  append(load(5));
  settle();
  stop();
  // The spool has deleted everything applied by now.
  open_spool();
  spool_->release(16);
  spool_->delete_expired(now_utc());
  ASSERT_EQ(spool_->usage().first_seq, 17U);
  restore_database("backup.db");
  make_recorder();
  start();
  append({line_of("run_completed", "r")});
  settle();
  EXPECT_EQ(status().forgotten, 15U);
  EXPECT_EQ(status().ledger.applied, 17U);
  EXPECT_EQ(status().accepted, 17U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_completed applied"));
  restart();
  settle();
  EXPECT_EQ(status().forgotten, 0U) << "it is said once";
  EXPECT_EQ(status().accepted, 17U);
}

TEST_P(SqliteOnly, SaysWhatTheDatabaseForgotAndTheSpoolNoLongerKeepsAlsoWhileItRuns) {
  spool_options_.keep = std::chrono::milliseconds{0};
  spool_.reset();
  open_spool();
  start();
  append({line_of("run_started", "r")});
  settle();
  copy_database("backup.db");
  append(load(5));
  settle();
  ASSERT_TRUE(eventually([&] { return spool_->usage().first_seq == 17U; }));
  restore_database("backup.db");
  append({line_of("run_completed", "r")});
  settle();
  ASSERT_TRUE(eventually([&] { return status().ledger.applied == 17U; }));
  EXPECT_EQ(status().forgotten, 15U);
  EXPECT_EQ(status().ledger.dead_letters, 0U);
  EXPECT_EQ(status().damaged, 0U);
  EXPECT_EQ(status().accepted, 17U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_completed applied"));
}

// ---- a spool that goes back, or is damaged

TEST_P(SqliteOnly, TakesNewEventsOfARestoredSpoolForNew) {
  start();
  append(load(2));
  settle();
  stop();
  copy_spool("backup");
  open_spool();
  start();
  append(load(4, "s"));
  settle();
  stop();
  restore_spool("backup");
  open_spool();
  start();
  EXPECT_EQ(spool_->usage().last_seq, 6U);
  append(load(4, "t"));
  settle();
  EXPECT_EQ(count("runs", "status = 'completed'"), 10U);
  for (const char* run_id : {"r1", "s3", "t0", "t3"}) EXPECT_EQ(history(run_id), kWhole);
  EXPECT_EQ(status().ledger.applied, 30U);
  EXPECT_EQ(status().accepted, 30U);
  restart();
  settle();
  EXPECT_EQ(status().accepted, 30U);
  EXPECT_EQ(count("run_events"), 30U);
}

TEST_P(SqliteOnly, TakesNewEventsOfASpoolRestoredWithinAnIncarnationForNew) {
  start();
  append(load(2));
  settle();
  copy_spool("backup");  // while it runs
  append(load(4, "s"));
  settle();
  stop();
  restore_spool("backup");
  open_spool();
  start();
  append(load(4, "t"));
  settle();
  EXPECT_EQ(count("runs", "status = 'completed'"), 10U);
  EXPECT_EQ(status().ledger.applied, 30U);
  expect_identity();
}

TEST_P(SqliteOnly, TurnsADamagedRecordInTheMiddleIntoADeadLetter) {
  append({line_of("run_started", "r", R"("council":"first")")});
  append({line_of("step", "r", R"("text":"DAMAGE-ME")")});
  append({line_of("run_completed", "r")});
  stop();
  for (const auto& entry : std::filesystem::directory_iterator(spool_path())) {
    std::ifstream in(entry.path(), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    const std::size_t place = bytes.find("DAMAGE-ME");
    if (place == std::string::npos) continue;
    bytes[place] = 'X';
    std::ofstream(entry.path(), std::ios::binary) << bytes;
  }
  open_spool();
  start();
  settle();
  EXPECT_EQ(status().ledger.applied, 2U);
  EXPECT_EQ(status().ledger.dead_letters, 1U);
  EXPECT_EQ(status().damaged, 1U);
  EXPECT_EQ(status().accepted, 3U);
  EXPECT_THAT(history("r"), ElementsAre("1 run_started applied", "2 run_completed applied"));
  const auto letters = open_store()->list_dead_letters(100, {}).value().dead_letters;
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_THAT(letters[0].reason, HasSubstr("event 2 of this recorder cannot be read"));
  EXPECT_EQ(letters[0].record, "");
  restart();
  settle();
  EXPECT_EQ(status().ledger.dead_letters, 1U);
}

TEST_P(SqliteOnly, DoesNotCountWhatIsAppliedAsFullAfterARestart) {
  start();
  append(load(50));
  settle();
  ASSERT_GT(spool_->usage().kept_bytes, 0U);
  restart();
  settle();
  EXPECT_EQ(spool_->usage().pending_bytes, 0U);
  EXPECT_GT(spool_->usage().kept_bytes, 0U);
  stop();
  hide_database();
  open_spool();
  make_recorder();
  EXPECT_EQ(spool_->usage().pending_bytes, 0U) << "the hint says so while the database is away";
}

TEST_P(SqliteOnly, IgnoresMalformedHints) {
  start();
  append(load(5));
  settle();
  stop();
  open_spool();
  for (const char* hint : {"", "garbage", "[]", R"({"ledger":{}})", R"({"ledger":7,"positions":[]})",
                           R"({"ledger":{"applied":99,"duplicate":0,"dead_letters":0,"dead_letters_removed":0,)"
                           R"("conflicts":0},"positions":{"x":"y"}})"}) {
    spool_->set_hint(hint);
    make_recorder();
    expect_identity();
    recorder_.reset();
  }
  start();
  settle();
  EXPECT_EQ(status().accepted, 15U);
  EXPECT_EQ(status().ledger.applied, 15U);
  EXPECT_EQ(count("run_events"), 15U);
}

// ---- the queue's word at the end of a run

TEST_P(SqliteOnly, KeepsTheJobsStateWhenARunEnds) {
  make_lite_queue();
  put_job(7, "executing");
  QueueOptions queue;
  queue.url = url();
  make_recorder(make_oban_queue(queue));
  start();
  append({line_of("run_started", "r", R"("oban_job_id":7)"), line_of("run_started", "s", R"("oban_job_id":8)")});
  settle();
  EXPECT_EQ(row("r").oban_job_state_at_finalize, std::nullopt);
  append({line_of("run_completed", "r"), line_of("run_completed", "s")});
  settle();
  EXPECT_EQ(row("r").oban_job_state_at_finalize, "executing");
  EXPECT_EQ(row("s").oban_job_state_at_finalize, std::nullopt);
}

TEST_P(SqliteOnly, DoesNotNeedTheQueueToEndARun) {
  QueueOptions queue;
  queue.url = "sqlite:" + folder_.file("nowhere/queue.db");
  make_recorder(make_oban_queue(queue));
  start();
  append({line_of("run_started", "r", R"("oban_job_id":7)"), line_of("run_completed", "r")});
  settle();
  EXPECT_EQ(row("r").status, Status::kCompleted);
  EXPECT_EQ(row("r").oban_job_state_at_finalize, std::nullopt);
}

TEST_P(SqliteOnly, CountsBatchesBySize) {
  recorder_options_.batch_events = 10;
  append(load(7));
  start();
  settle();
  const RecorderStatus now = status();
  EXPECT_EQ(now.batches, 3U);
  EXPECT_EQ(now.batch_events, 21U);
  EXPECT_EQ(now.batch_sizes, (std::vector<std::uint64_t>{1, 1, 3, 3, 3, 3, 3, 3}));
}

INSTANTIATE_TEST_SUITE_P(Recorder, SqliteOnly, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
