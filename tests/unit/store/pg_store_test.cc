// What is PostgreSQL's own: sessions with other settings, servers that freeze and backends that go, poolers. What
// both databases promise is in the conformance suite.
#include "store/pg_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "base/json_text.h"
#include "store/store.h"
#include "support/migrated_postgres.h"
#include "support/private_postgres.h"

namespace run_recorder::testing {
namespace {

using std::chrono::milliseconds;

StoreOptions options_for(const std::string& url) {
  StoreOptions options;
  options.url = url;
  return options;
}

const RecorderSelf kSelf{"recorder-1", "incarnation-1", "host-1", "0.1.0"};

Timestamp at(const char* text) {
  return parse_rfc3339(text).value();
}

run_recorder::Run started(const std::string& run_id) {
  run_recorder::Run run;
  run.run_id = run_id;
  run.council = "backup";
  run.council_given = true;
  run.status = Status::kRunning;
  run.input = R"({"path":"/home","size":12345678901234567890.0100})";
  run.started_at = at("2026-03-29T01:30:00.123456Z");
  run.recorder = kSelf.id;
  run.last_seq = 1;
  return run;
}

HistoryEntry entry(const std::string& run_id, std::int64_t seq) {
  HistoryEntry entry;
  entry.run_id = run_id;
  entry.seq = seq;
  entry.type = seq == 1 ? "run_started" : "note";
  entry.payload = R"({"a":1})";
  entry.at = at("0001-01-01T00:00:00Z");
  entry.received_at = at("9999-12-31T23:59:59.999999Z");
  return entry;
}

BatchWrite first_batch(const std::vector<std::string>& run_ids) {
  BatchWrite batch;
  batch.incarnation = kSelf.incarnation;
  batch.to = run_ids.size();
  for (const std::string& run_id : run_ids) {
    RunChange change;
    change.after = started(run_id);
    change.insert = true;
    batch.runs.push_back(change);
    batch.history.push_back(entry(run_id, 1));
  }
  return batch;
}

class PgStoreTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (!url_.empty()) server().drop_database(url_);
  }
  static PrivatePostgres& server() { return PrivatePostgres::shared(); }
  const std::string& url() {
    if (url_.empty()) url_ = server().create_database();
    return url_;
  }
  std::unique_ptr<Store> migrated() {
    if (url_.empty()) url_ = create_migrated_database();
    EXPECT_TRUE(migrate(options_for(url()), false));
    return open_store(options_for(url())).value();
  }
  std::string query(const std::string& sql) { return server().query(url(), sql); }

 private:
  std::string url_;  // empty: none yet
};

// Batches that go by COPY.
class PgCopyTest : public PgStoreTest {
 protected:
  static constexpr std::size_t kRuns = 300;

  StoreOptions copying() {
    StoreOptions options = options_for(url());
    options.copy_rows = kRuns;
    return options;
  }
  std::unique_ptr<Store> migrated_and_copying() {
    static_cast<void>(migrated());
    auto store = open_store(copying()).value();
    EXPECT_TRUE(store->check_in(kSelf));
    return store;
  }
  static BatchWrite large_batch() {
    std::vector<std::string> run_ids;
    for (std::size_t i = 0; i < kRuns; ++i) run_ids.push_back("run-" + std::to_string(i));
    return first_batch(run_ids);
  }
  // A rule is for INSERT only, which shows which batches went by COPY.
  void let_inserts_fail() { query("CREATE RULE none AS ON INSERT TO council_ex_run_events DO INSTEAD NOTHING"); }
};

TEST_F(PgCopyTest, NothingIsWrittenBesideANewerDaemonThatDoesNotAllowIt) {
  const auto store = migrated_and_copying();
  query("INSERT INTO council_ex_recorder_schema (version, name, oldest_daemon) VALUES (99, 'later', '0.1.0')");
  EXPECT_EQ(store->commit(kSelf, first_batch({"before"})).value(), Committed::kYes);
  EXPECT_TRUE(store->check_in(kSelf));
  query("UPDATE council_ex_recorder_schema SET oldest_daemon = '99.0.0' WHERE version = 99");
  BatchWrite large = large_batch();
  BatchWrite small = first_batch({"small"});
  for (BatchWrite* const batch : {&small, &large}) {
    batch->from = 1;
    const auto written = store->commit(kSelf, *batch);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().kind, ErrorKind::kRefused);
    EXPECT_THAT(written.error().message, ::testing::HasSubstr("99.0.0"));
  }
  EXPECT_EQ(query("SELECT string_agg(run_id, ',') FROM council_ex_runs"), "before");
  EXPECT_EQ(store->check_in(kSelf).error().kind, ErrorKind::kRefused);
}

TEST_F(PgCopyTest, LargeBatchesAreCopiedAndSmallOnesAreNot) {
  const auto store = migrated_and_copying();
  let_inserts_fail();
  EXPECT_EQ(store->commit(kSelf, large_batch()).value(), Committed::kYes);
  EXPECT_EQ(query("SELECT count(*) FROM council_ex_run_events"), std::to_string(kRuns));
  BatchWrite small = first_batch({"small"});
  small.from = kRuns;
  small.to = kRuns + 1;
  EXPECT_FALSE(store->commit(kSelf, small));
}

TEST_F(PgCopyTest, TextsComeBackAsTheyWere) {
  const auto store = migrated_and_copying();
  const std::string odd = "\\N\\.\t\n\r\b\x01\x7f\\\"'$1,{}";
  const std::string names[] = {odd, "\\N", "\\.", "NULL", " ", "é\xF0\x9F\x8C\x8D", "\\x41\\101"};
  BatchWrite batch = large_batch();
  for (std::size_t i = 0; i < std::size(names); ++i) {
    run_recorder::Run& run = batch.runs[i].after;
    run.council = names[i];
    run.parent_attempt_run_id = names[i];
    run.input =
        "{\t\"a\\\\\\t\\u00e9\" :\r\n[1E+2,-0.0, 12345678901234567890.0100, \""
        "\\\"\\n"
        "\"]}";
    batch.history[i].type = names[i];
    batch.history[i].event_id = names[i];
    batch.history[i].payload = *run.input;
  }
  ASSERT_EQ(store->commit(kSelf, batch).value(), Committed::kYes);
  for (std::size_t i = 0; i < std::size(names); ++i) {
    const auto run = store->find_run("run-" + std::to_string(i)).value();
    ASSERT_TRUE(run);
    EXPECT_EQ(run->council, names[i]);
    EXPECT_EQ(run->parent_attempt_run_id, names[i]);
    EXPECT_TRUE(json_equal(run->input.value(), *batch.runs[i].after.input)) << *run->input;
    const auto events = store->list_events(run->run_id, 10, {}).value().events;
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].entry.type, names[i]);
    EXPECT_EQ(events[0].entry.event_id, names[i]);
    EXPECT_TRUE(json_equal(events[0].entry.payload, *batch.runs[i].after.input)) << events[0].entry.payload;
  }
}

TEST_F(PgCopyTest, ARowThatTheDatabaseRefusesIsSaidInItsWordsAndNothingIsWritten) {
  const auto store = migrated_and_copying();
  query("ALTER TABLE council_ex_run_events ADD CONSTRAINT no_poison CHECK (run_id <> 'run-150')");
  const auto committed = store->commit(kSelf, large_batch());
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kData);
  EXPECT_EQ(committed.error().sqlstate, "23514");
  EXPECT_NE(committed.error().message.find("no_poison"), std::string::npos) << committed.error().message;
  EXPECT_EQ(query("SELECT count(*) FROM council_ex_runs"), "0");
  query("ALTER TABLE council_ex_run_events DROP CONSTRAINT no_poison");
  EXPECT_EQ(store->commit(kSelf, large_batch()).value(), Committed::kYes);
}

TEST_F(PgCopyTest, ATriggerThatDropsRowsIsNoticed) {
  const auto store = migrated_and_copying();
  query(
      "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
      "CREATE TRIGGER dropping BEFORE INSERT ON council_ex_run_events FOR EACH ROW WHEN (NEW.run_id = 'run-7') "
      "EXECUTE FUNCTION drop_it()");
  EXPECT_EQ(store->commit(kSelf, large_batch()).value(), Committed::kRaced);
  EXPECT_EQ(query("SELECT count(*) FROM council_ex_runs"), "0");
  query("DROP TRIGGER dropping ON council_ex_run_events");
  EXPECT_EQ(store->commit(kSelf, large_batch()).value(), Committed::kYes);
}

TEST_F(PgCopyTest, TablesWithRowSecurityAreWrittenByStatements) {
  ASSERT_TRUE(migrate(copying(), false));
  query(
      "ALTER TABLE council_ex_runs ENABLE ROW LEVEL SECURITY; ALTER TABLE council_ex_runs FORCE ROW LEVEL SECURITY");
  query("CREATE POLICY all_of_it ON council_ex_runs USING (true)");
  const auto store = open_store(copying()).value();
  ASSERT_TRUE(store->check_in(kSelf));
  EXPECT_EQ(store->commit(kSelf, large_batch()).value(), Committed::kYes);
}

TEST_F(PgCopyTest, ColumnsWithoutTimeZoneGetUtc) {
  query("ALTER DATABASE " + PrivatePostgres::database_of(url()) + " SET timezone = 'Asia/Kathmandu'");
  query(
      "CREATE TABLE council_ex_runs (run_id varchar(255) PRIMARY KEY, council varchar(255), status varchar(255), "
      "attempt integer, parent_attempt_run_id varchar(255), oban_job_id bigint, oban_job_state_at_finalize "
      "varchar(255), input jsonb, result jsonb, error jsonb, started_at timestamp, finalized_at timestamp, "
      "inserted_at timestamp NOT NULL, updated_at timestamp NOT NULL)");
  const auto store = migrated_and_copying();
  const Timestamp before = store->database_now().value();
  ASSERT_EQ(store->commit(kSelf, large_batch()).value(), Committed::kYes);
  const auto run = store->find_run("run-0").value();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->started_at, started("run-0").started_at);
  for (const auto& time : {run->inserted_at, run->updated_at, run->last_event_at}) {
    EXPECT_LE(before, *time);
    EXPECT_LT(*time - before, std::chrono::minutes(5));
  }
}

TEST_F(PgStoreTest, NothingDependsOnWhatSessionsAreSetTo) {
  const std::string database = PrivatePostgres::database_of(url());
  for (const char* setting :
       {"timezone = 'Asia/Kathmandu'", "datestyle = 'German, DMY'", "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'", "extra_float_digits = 0", "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'", "lc_messages = 'C'", "array_nulls = off"}) {
    query("ALTER DATABASE " + database + " SET " + setting);
  }
  const auto store = migrated();
  ASSERT_TRUE(store->check_in(kSelf));
  BatchWrite batch = first_batch({"r"});
  DeadLetter letter;
  letter.run_id = "r";
  letter.record = std::string("\0\xff\\x", 4);
  letter.received_at = at("2026-07-01T12:00:00.000001Z");
  batch.dead_letters.push_back(letter);
  const Timestamp before = store->database_now().value();
  ASSERT_EQ(store->commit(kSelf, batch).value(), Committed::kYes);
  const auto run = store->find_run("r").value();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->started_at, started("r").started_at);
  EXPECT_LE(before, *run->inserted_at);
  EXPECT_LT(*run->inserted_at - before, std::chrono::minutes(5));
  const auto events = store->list_events("r", 10, {}).value().events;
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].entry.at, entry("r", 1).at);
  EXPECT_EQ(events[0].entry.received_at, entry("r", 1).received_at);
  const auto letters = store->list_dead_letters(10, {}).value().dead_letters;
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_EQ(letters[0].record, letter.record);
  EXPECT_EQ(letters[0].received_at, letter.received_at);
  RunFilter filter;
  filter.since = before;
  EXPECT_EQ(store->list_runs(filter).value().runs.size(), 1U);
  filter.since = before + std::chrono::minutes(5);
  EXPECT_EQ(store->list_runs(filter).value().runs.size(), 0U);
  EXPECT_EQ(store->running_rows("", 10, {before, before + std::chrono::minutes(5)}).value().size(), 1U);
  EXPECT_TRUE(store->server_age().value());
}

TEST_F(PgStoreTest, NumbersKeepTheirExactValue) {
  const auto store = migrated();
  ASSERT_EQ(store->commit(kSelf, first_batch({"r"})).value(), Committed::kYes);
  EXPECT_EQ(query("SELECT input->>'size' FROM council_ex_runs"), "12345678901234567890.0100");
}

TEST_F(PgStoreTest, ATableThatIsDroppedUnderUsIsAwayNotData) {
  const auto store = migrated();
  query("DROP TABLE council_ex_run_events");
  const auto committed = store->commit(kSelf, first_batch({"r"}));
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(committed.error().sqlstate, "42P01");
}

TEST_F(PgStoreTest, APermissionThatIsTakenAwayIsAwayNotData) {
  migrated();
  query("CREATE ROLE writer LOGIN");
  query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO writer");
  const std::string as_writer = server().url(PrivatePostgres::database_of(url()), "writer");
  auto store = open_store(options_for(as_writer)).value();
  ASSERT_EQ(store->commit(kSelf, first_batch({"r"})).value(), Committed::kYes);
  query("REVOKE INSERT ON council_ex_run_events FROM writer");
  BatchWrite batch = first_batch({"s"});
  batch.from = 1;
  batch.to = 2;
  EXPECT_EQ(store->commit(kSelf, batch).error().kind, ErrorKind::kUnavailable);
  const auto reopened = open_store(options_for(as_writer));
  ASSERT_FALSE(reopened);
  EXPECT_EQ(reopened.error().kind, ErrorKind::kRefused);
  EXPECT_NE(reopened.error().message.find("INSERT on council_ex_run_events"), std::string::npos)
      << reopened.error().message;
  query("DROP OWNED BY writer");
  query("DROP ROLE writer");
}

TEST_F(PgStoreTest, AReadOnlyDatabaseIsAwayNotData) {
  migrated();
  query("ALTER DATABASE " + PrivatePostgres::database_of(url()) + " SET default_transaction_read_only = on");
  const auto store = open_store(options_for(url())).value();
  const auto committed = store->commit(kSelf, first_batch({"r"}));
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(committed.error().sqlstate, "25006");
}

TEST_F(PgStoreTest, ARehearsalFiresDeferredTriggers) {
  const auto store = migrated();
  query(
      "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'late'; END $$; "
      "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON council_ex_run_events DEFERRABLE INITIALLY DEFERRED "
      "FOR EACH ROW EXECUTE FUNCTION late()");
  BatchWrite batch = first_batch({"r"});
  batch.to = batch.from;
  const auto rehearsed = store->rehearse(kSelf, {&batch, 1});
  ASSERT_FALSE(rehearsed);
  EXPECT_EQ(rehearsed.error().sqlstate, "P0001");
}

TEST_F(PgStoreTest, HistoryBeyondItsRowIsDataNotARaceForEver) {
  const auto store = migrated();
  ASSERT_EQ(store->commit(kSelf, first_batch({"r"})).value(), Committed::kYes);
  query("DELETE FROM council_ex_runs");
  BatchWrite again = first_batch({"r"});
  again.from = 1;
  again.to = 2;
  const auto committed = store->commit(kSelf, again);
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kData);
  EXPECT_EQ(committed.error().sqlstate, "23505");
}

TEST_F(PgStoreTest, ASequenceThatIsBehindIsSetAndIsNoErrorOfTheData) {
  const auto store = migrated();
  ASSERT_EQ(store->commit(kSelf, first_batch({"a", "b", "c"})).value(), Committed::kYes);
  const char* const turn_back = "SELECT setval(pg_get_serial_sequence('council_ex_run_events', 'id'), 1)";
  query(turn_back);
  BatchWrite next = first_batch({"d"});
  next.from = first_batch({"a", "b", "c"}).to;
  next.to = next.from + 1;
  EXPECT_EQ(store->commit(kSelf, next).value(), Committed::kCollided);
  EXPECT_EQ(store->commit(kSelf, next).value(), Committed::kYes);
  EXPECT_THAT(store->check_in(kSelf).value().sequences, ::testing::IsEmpty());
  query(turn_back);
  EXPECT_THAT(store->check_in(kSelf).value().sequences, ::testing::SizeIs(1));
  EXPECT_THAT(store->check_in(kSelf).value().sequences, ::testing::IsEmpty());
  query(turn_back);
  const StuckMark mark{"d", 1, R"({"kind":"stuck"})", std::nullopt};
  EXPECT_EQ(store->mark_stuck(kSelf, "pass", {&mark, 1}).value().size(), 1U);

  // The id that collides is the highest, so that the sequence is where it should be when it is looked at.
  const char* const to_the_last =
      "SELECT setval(pg_get_serial_sequence('council_ex_run_events', 'id'), (SELECT max(id) FROM "
      "council_ex_run_events), false)";
  query(to_the_last);
  next = first_batch({"f"});
  next.from = 4;
  next.to = 5;
  EXPECT_EQ(store->commit(kSelf, next).value(), Committed::kCollided);
  EXPECT_EQ(store->commit(kSelf, next).value(), Committed::kYes);

  // What is imported gets ids too.
  query(to_the_last);
  StoredEvent moved;
  moved.entry = entry("e", 1);
  moved.inserted_at = moved.entry.received_at;
  const auto kept = store->insert_history("e", {&moved, 1});
  EXPECT_TRUE(kept) << kept.error().message;
}

TEST_F(PgStoreTest, ALockHeldByAnotherEndsTheCallAtItsDeadline) {
  migrated();
  StoreOptions options = options_for(url());
  options.deadline = milliseconds(2'000);
  const auto store = open_store(options).value();
  PgOptions other;
  other.url = url();
  const auto holder = PgConnection::connect(other).value();
  ASSERT_TRUE(holder->begin());
  ASSERT_TRUE(holder->exec("LOCK TABLE council_ex_runs IN ACCESS EXCLUSIVE MODE"));
  const auto committed = store->commit(kSelf, first_batch({"r"}));
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kUnavailable);
  // By this side, or by the server, whichever looks at its clock first.
  EXPECT_TRUE(committed.error().message.find("2s") != std::string::npos || committed.error().sqlstate == "57014")
      << committed.error().message;
  holder->rollback();
  const auto fresh = open_store(options_for(url())).value();
  EXPECT_EQ(fresh->commit(kSelf, first_batch({"r"})).value(), Committed::kYes);
}

TEST_F(PgStoreTest, AFrozenServerEndsEveryCallAtItsDeadline) {
  PrivatePostgres own;
  const std::string database = own.create_database();
  StoreOptions options = options_for(database);
  ASSERT_TRUE(migrate(options, false));
  options.deadline = milliseconds(2'000);
  const auto writer = open_store(options).value();
  const auto reader = open_store(options).value();
  own.freeze();
  const auto written = writer->commit(kSelf, first_batch({"r"}));
  EXPECT_EQ(written.error().kind, ErrorKind::kUnavailable);
  EXPECT_NE(written.error().message.find("2s"), std::string::npos) << written.error().message;
  const auto read = reader->find_run("r");
  EXPECT_EQ(read.error().kind, ErrorKind::kUnavailable);
  EXPECT_NE(read.error().message.find("2s"), std::string::npos) << read.error().message;
  own.thaw();
  const auto fresh = open_store(options_for(database)).value();
  EXPECT_FALSE(fresh->find_run("r").value());
}

// A trigger of the history ends its own backend, at the statement or at COMMIT.
class PgLostBackend : public PgStoreTest, public ::testing::WithParamInterface<bool> {};

TEST_P(PgLostBackend, IsNeverReportedAsCommitted) {
  auto store = migrated();
  const bool at_commit = GetParam();
  query(
      "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END $$");
  query(std::string("CREATE CONSTRAINT TRIGGER die AFTER INSERT ON council_ex_run_events ") +
        (at_commit ? "DEFERRABLE INITIALLY DEFERRED " : "") + "FOR EACH ROW EXECUTE FUNCTION die()");
  const auto committed = store->commit(kSelf, first_batch({"r"}));
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, at_commit ? ErrorKind::kInDoubt : ErrorKind::kUnavailable);
  query("DROP FUNCTION die CASCADE");
  store = open_store(options_for(url())).value();
  EXPECT_TRUE(store->check_in(kSelf).value().applied.empty());
  EXPECT_EQ(store->commit(kSelf, first_batch({"r"})).value(), Committed::kYes);
}
INSTANTIATE_TEST_SUITE_P(When, PgLostBackend, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "AtCommit" : "AtTheStatement"; });

TEST_F(PgStoreTest, AKilledServerIsAwayAndWhatWasCommittedIsThereAfterwards) {
  PrivatePostgres::Options safe;
  safe.fsync = true;
  PrivatePostgres own(safe);
  const std::string database = own.create_database();
  ASSERT_TRUE(migrate(options_for(database), false));
  auto store = open_store(options_for(database)).value();
  ASSERT_EQ(store->commit(kSelf, first_batch({"r"})).value(), Committed::kYes);
  own.kill();
  EXPECT_EQ(store->find_run("r").error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(open_store(options_for(database)).error().kind, ErrorKind::kUnavailable);
  own.start();
  store = open_store(options_for(database)).value();
  EXPECT_EQ(store->check_in(kSelf).value().applied.at(kSelf.incarnation), 1U);
  EXPECT_TRUE(store->find_run("r").value());
}

// A column of type json takes texts that no jsonb can be: they differ from whatever an event says, and keep no other
// comparison from its answer.
TEST_F(PgStoreTest, OutcomesAreComparedAlsoWhereAnApplicationWroteWhatIsNoJsonb) {
  query(
      "CREATE TABLE council_ex_runs (run_id text PRIMARY KEY, council text NOT NULL, status text NOT NULL, input "
      "json, "
      "result json, error json, started_at timestamptz, finalized_at timestamptz, attempt integer NOT NULL DEFAULT "
      "1, "
      "parent_attempt_run_id text, oban_job_id bigint, oban_job_state_at_finalize text, "
      "inserted_at timestamptz NOT NULL, updated_at timestamptz NOT NULL); "
      "INSERT INTO council_ex_runs (run_id, council, status, result, inserted_at, updated_at) VALUES "
      R"(('odd', 'Demo', 'completed', '{"a":"\u0000"}', now(), now()), )"
      R"(('even', 'Demo', 'completed', '{"a": 1}', now(), now()))");
  const auto store = migrated();
  const std::vector<SaidOutcome> said{
      {"odd", {R"({"a":1})", std::nullopt}}, {"even", {R"({"a":1})", std::nullopt}}, {"even", {"{}", std::nullopt}}};
  const auto same = store->compare_outcomes(said).value();
  ASSERT_EQ(same.size(), 3U);
  EXPECT_FALSE(same[0].result);
  EXPECT_TRUE(same[1].result);
  EXPECT_FALSE(same[2].result);
}

TEST_F(PgStoreTest, DaemonsThatRecordTheSameRunsRaceAndNeverLose) {
  migrated();
  std::vector<std::string> run_ids;
  for (int i = 0; i < 50; ++i) run_ids.push_back("run-" + std::to_string(i));
  constexpr int kDaemons = 4;
  constexpr int kBatches = 10;
  std::vector<std::thread> daemons;
  for (int daemon = 0; daemon < kDaemons; ++daemon) {
    daemons.emplace_back([&, daemon] {
      const auto store = open_store(options_for(url())).value();
      const RecorderSelf self{"recorder-" + std::to_string(daemon), "incarnation", "host", "0.1.0"};
      for (int batch = 0; batch < kBatches;) {
        std::map<std::string, run_recorder::Run> rows;
        for (run_recorder::Run& run : store->load(run_ids).value()) rows.emplace(run.run_id, run);
        BatchWrite write;
        write.incarnation = self.incarnation;
        write.from = static_cast<std::uint64_t>(batch);
        write.to = write.from + 1;
        for (const std::string& run_id : run_ids) {
          RunChange change;
          const auto row = rows.find(run_id);
          change.insert = row == rows.end();
          change.after = change.insert ? started(run_id) : row->second;
          change.expected_last_seq = change.insert ? 0 : row->second.last_seq;
          change.after.last_seq = change.expected_last_seq + 1;
          change.after.recorder = self.id;
          write.runs.push_back(change);
          write.history.push_back(entry(run_id, change.after.last_seq));
        }
        const auto committed = store->commit(self, write);
        ASSERT_TRUE(committed) << committed.error().message;
        if (*committed == Committed::kYes) ++batch;
      }
    });
  }
  for (std::thread& daemon : daemons) daemon.join();
  EXPECT_EQ(query("SELECT DISTINCT last_seq FROM council_ex_runs"), "40");
  EXPECT_EQ(query("SELECT count(*) FROM (SELECT run_id FROM council_ex_run_events GROUP BY run_id "
                  "HAVING count(*) = 40 AND min(seq) = 1 AND max(seq) = 40) x"),
            "50");
}

TEST_F(PgStoreTest, WorksThroughAPoolerInTransactionMode) {
  if (!PrivatePgbouncer::installed()) GTEST_SKIP() << "pgbouncer is not installed";
  const PrivatePgbouncer pooler(server());
  const StoreOptions options = options_for(pooler.url(PrivatePostgres::database_of(url())));
  std::vector<std::thread> migrating;
  for (int i = 0; i < 4; ++i) {
    migrating.emplace_back([&] {
      const auto done = migrate(options, false);
      EXPECT_TRUE(done) << done.error().message;
    });
  }
  for (std::thread& thread : migrating) thread.join();
  // More stores than the pooler has connections, so that each statement may meet another backend.
  std::vector<std::unique_ptr<Store>> stores;
  for (int i = 0; i < 6; ++i) stores.push_back(open_store(options).value());
  for (std::size_t i = 0; i < stores.size(); ++i) {
    RecorderSelf self = kSelf;
    self.id += std::to_string(i);
    ASSERT_TRUE(stores[i]->check_in(self));
    ASSERT_EQ(stores[i]->commit(self, first_batch({"r" + std::to_string(i)})).value(), Committed::kYes);
  }
  for (const auto& store : stores) EXPECT_EQ(store->list_runs({}).value().runs.size(), 6U);
  EXPECT_TRUE(stores[0]->acquire_lease(kPassLease, "a", milliseconds(60'000)).value());
  EXPECT_FALSE(stores[1]->acquire_lease(kPassLease, "b", milliseconds(60'000)).value());
}

}  // namespace
}  // namespace run_recorder::testing
