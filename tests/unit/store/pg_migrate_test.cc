// Migrations in PostgreSQL: taking over tables that CouncilEx made, many daemons at once, and every reason to refuse.
#include "store/pg_migrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "database/pg_connection.h"
#include "store/index_build.h"
#include "store/migrations.h"
#include "store/store.h"
#include "support/private_postgres.h"

namespace run_recorder::testing {
namespace {

using ::testing::HasSubstr;

// As Ecto's migrations make tables: strings are varchar(255), times have no time zone, ids are made by the
// application.
constexpr const char* kEctoRuns =
    "CREATE TABLE council_ex_runs (id uuid PRIMARY KEY, run_id varchar(255) NOT NULL, council varchar(255) NOT NULL, "
    "status varchar(255) NOT NULL, attempt integer NOT NULL DEFAULT 1, parent_attempt_run_id varchar(255), "
    "oban_job_id bigint, oban_job_state_at_finalize varchar(255), input jsonb, result jsonb, error jsonb, "
    "started_at timestamp, finalized_at timestamp(0), inserted_at timestamp(0) NOT NULL, updated_at timestamp(0) NOT "
    "NULL); CREATE UNIQUE INDEX council_ex_runs_run_id_index ON council_ex_runs (run_id);";
constexpr const char* kEctoEvents =
    "CREATE TABLE council_ex_run_events (id uuid PRIMARY KEY, run_id varchar(255) NOT NULL, seq integer NOT NULL, "
    "type varchar(255) NOT NULL, payload jsonb NOT NULL, inserted_at timestamp NOT NULL);";
constexpr const char* kEctoRows =
    "INSERT INTO council_ex_runs (id, run_id, council, status, input, started_at, inserted_at, updated_at) VALUES "
    "('00000000-0000-0000-0000-000000000001', 'old', 'Elixir.Demo', 'running', '{}', '2026-01-02 03:04:05.678', "
    "'2026-01-02 03:04:05', '2026-01-02 03:04:06'); "
    "INSERT INTO council_ex_run_events (id, run_id, seq, type, payload, inserted_at) VALUES "
    "('f0000000-0000-0000-0000-000000000001', 'old', 1, 'run_started', '{}', '2026-01-02 03:04:05.678'), "
    "('f0000000-0000-0000-0000-000000000002', 'old', 2, 'note', '{}', '2026-01-02 03:04:05.678');";

const RecorderSelf kSelf{"recorder-1", "incarnation-1", "host-1", "0.1.0"};

class PgMigrateTest : public ::testing::Test {
 protected:
  void SetUp() override { url_ = server().create_database(); }
  void TearDown() override { server().drop_database(url_); }
  static PrivatePostgres& server() { return PrivatePostgres::shared(); }
  StoreOptions options() const {
    StoreOptions options;
    options.url = url_;
    return options;
  }
  std::string query(const std::string& sql) const { return server().query(url_, sql); }
  // The words of a refusal; empty where there is none.
  static std::string refusal(const Result<MigrationReport>& report) {
    if (report) return {};
    EXPECT_EQ(report.error().kind, ErrorKind::kRefused) << report.error().message;
    return report.error().message;
  }
  std::string refusal() const { return refusal(migrate(options(), false)); }

  std::string url_;
};

TEST_F(PgMigrateTest, AnEmptyDatabaseGetsAllTablesOnce) {
  const auto first = migrate(options(), false);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->schema_version, postgresql_migrations().back().version);
  EXPECT_EQ(first->applied.size(), postgresql_migrations().size());
  const auto second = migrate(options(), false);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->schema_version, first->schema_version);
  EXPECT_TRUE(second->applied.empty());
  EXPECT_TRUE(migrate(options(), true));
  EXPECT_EQ(query("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "0");
}

TEST_F(PgMigrateTest, VerifyingChangesNothing) {
  const auto missing = migrate(options(), true);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("--migrate"));
  EXPECT_EQ(query("SELECT count(*) FROM pg_class WHERE relname LIKE 'council_ex%'"), "0");
}

TEST_F(PgMigrateTest, TheSqlThatIsPrintedMakesTheSameByHand) {
  const std::string sql = migration_sql(options());
  for (const std::string& statement : statements_of(sql)) query(statement);
  const auto verified = migrate(options(), true);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->schema_version, postgresql_migrations().back().version);
  EXPECT_TRUE(open_store(options()));
}

TEST_F(PgMigrateTest, TenDaemonsAtOnceMigrateOnce) {
  std::vector<std::thread> daemons;
  std::atomic<std::size_t> applied = 0;
  for (int i = 0; i < 10; ++i) {
    daemons.emplace_back([&] {
      const auto report = migrate(options(), false);
      ASSERT_TRUE(report) << report.error().message;
      applied += report->applied.size();
      EXPECT_TRUE(open_store(options()));
    });
  }
  for (std::thread& daemon : daemons) daemon.join();
  EXPECT_EQ(applied, postgresql_migrations().size());
}

TEST_F(PgMigrateTest, TenDaemonsAtOnceTakeOverOnce) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  std::vector<std::thread> daemons;
  for (int i = 0; i < 10; ++i) {
    daemons.emplace_back([&] {
      const auto report = migrate(options(), false);
      EXPECT_TRUE(report) << report.error().message;
      const auto store = open_store(options());
      EXPECT_TRUE(store) << store.error().message;
    });
  }
  for (std::thread& daemon : daemons) daemon.join();
  EXPECT_EQ(migrate(options(), true)->schema_version, postgresql_migrations().back().version);
  EXPECT_EQ(query("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "0");
  EXPECT_EQ(query("SELECT count(*) FROM pg_class WHERE relname = 'council_ex_runs_running'"), "1");
}

TEST_F(PgMigrateTest, TablesOfEctoKeepTheirTypesAndRowsAndWorkInEveryTimeZone) {
  query("ALTER DATABASE " + PrivatePostgres::database_of(url_) + " SET timezone = 'America/St_Johns'");
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(query("SELECT data_type FROM information_schema.columns WHERE table_name = 'council_ex_runs' "
                  "AND column_name = 'started_at'"),
            "timestamp without time zone");
  const auto store = open_store(options()).value();
  auto old = store->find_run("old").value();
  ASSERT_TRUE(old);
  EXPECT_EQ(old->status, Status::kRunning);
  EXPECT_EQ(old->started_at, parse_rfc3339("2026-01-02T03:04:05.678Z"));
  EXPECT_EQ(old->recorder, "");
  EXPECT_EQ(old->last_seq, 2) << "its history counts";
  const auto running = store->running_rows("", 10, {{}, store->database_now().value()}).value();
  ASSERT_EQ(running.size(), 1U);
  EXPECT_GT(running[0].silence, std::chrono::hours(24));

  // The next event goes on behind the history that is there, and a new run stands beside it.
  BatchWrite batch;
  batch.incarnation = kSelf.incarnation;
  batch.to = 2;
  RunChange change;
  change.after = *old;
  change.expected_last_seq = 2;
  change.after.last_seq = 3;
  change.after.status = Status::kCompleted;
  change.after.finalized_at = parse_rfc3339("2026-01-02T05:04:05Z");
  change.after.result = R"({"ok":true})";
  change.outcome_changed = true;
  batch.runs.push_back(change);
  change = {};
  change.insert = true;
  change.after.run_id = "new";
  change.after.status = Status::kRunning;
  change.after.started_at = parse_rfc3339("2026-01-02T06:04:05.25Z");
  change.after.last_seq = 1;
  batch.runs.push_back(change);
  HistoryEntry entry;
  entry.run_id = "old";
  entry.seq = 3;
  entry.type = "run_completed";
  entry.payload = R"({"result":{"ok":true}})";
  entry.received_at = *parse_rfc3339("2026-01-02T05:04:05Z");
  batch.history.push_back(entry);
  entry.run_id = "new";
  entry.seq = 1;
  entry.type = "run_started";
  batch.history.push_back(entry);
  ASSERT_EQ(store->commit(kSelf, batch).value(), Committed::kYes);
  EXPECT_EQ(query("SELECT finalized_at::text FROM council_ex_runs WHERE run_id = 'old'"), "2026-01-02 05:04:05");
  EXPECT_EQ(query("SELECT started_at::text FROM council_ex_runs WHERE run_id = 'new'"), "2026-01-02 06:04:05.25");
  EXPECT_EQ(query("SELECT abs(extract(epoch FROM inserted_at - (now() AT TIME ZONE 'UTC'))) < 60 "
                  "FROM council_ex_runs WHERE run_id = 'new'"),
            "t");
  EXPECT_EQ(store->list_events("old", 10, {}).value().events.size(), 3U);
  EXPECT_EQ(store->list_runs({}).value().runs.size(), 2U);
  batch.from = 2;
  batch.to = 3;
  EXPECT_EQ(store->commit(kSelf, batch).value(), Committed::kRaced);

  const StuckMark mark{"new", 1, R"({"kind":"stuck"})", "executing"};
  EXPECT_EQ(store->mark_stuck(kSelf, "pass", {&mark, 1}).value().size(), 1U);
  EXPECT_EQ(store->undo_pass(kSelf, "pass").value().undone, 1U);
  EXPECT_EQ(store->list_events("new", 10, {}).value().events.size(), 3U);
}

TEST_F(PgMigrateTest, AHistoryWithPlainTimestampsIsFilledByStatementsAndByCopy) {
  query(std::string(kEctoRuns) + "ALTER TABLE council_ex_runs ALTER id SET DEFAULT gen_random_uuid(); " +
        kEctoEvents +
        "ALTER TABLE council_ex_run_events DROP id, ADD id bigserial PRIMARY KEY, ADD updated_at timestamp(0) NOT "
        "NULL");
  ASSERT_EQ(refusal(), "");
  StoreOptions copying = options();
  copying.copy_rows = 1;
  std::uint64_t position = 0;
  for (const StoreOptions& how : {options(), copying}) {
    BatchWrite batch;
    batch.incarnation = kSelf.incarnation;
    batch.from = position;
    batch.to = ++position;
    RunChange change;
    change.insert = true;
    change.after.run_id = position == 1 ? "by-statement" : "by-copy";
    change.after.last_seq = 1;
    HistoryEntry entry;
    entry.run_id = change.after.run_id;
    entry.seq = 1;
    entry.type = "run_started";
    entry.payload = "{}";
    batch.runs.push_back(change);
    batch.history.push_back(entry);
    const auto committed = open_store(how).value()->commit(kSelf, batch);
    ASSERT_TRUE(committed) << committed.error().message;
    EXPECT_EQ(*committed, Committed::kYes);
  }
  EXPECT_EQ(query("SELECT count(*) FROM council_ex_run_events WHERE abs(extract(epoch FROM updated_at - "
                  "(now() AT TIME ZONE 'UTC'))) < 60"),
            "2");
}

TEST_F(PgMigrateTest, MarkingARowThatWasTakenOverContinuesItsHistory) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  ASSERT_EQ(refusal(), "");
  const auto store = open_store(options()).value();
  const StuckMark mark{"old", 2, R"({"kind":"stuck"})", std::nullopt};
  EXPECT_EQ(store->mark_stuck(kSelf, "pass", {&mark, 1}).value().size(), 1U);
  EXPECT_EQ(store->find_run("old").value()->last_seq, 3);
}

TEST_F(PgMigrateTest, AnEnumStatusWorks) {
  query("CREATE TYPE run_status AS ENUM ('queued', 'running', 'completed', 'failed', 'cancelled', 'stuck')");
  std::string runs = kEctoRuns;
  runs.replace(runs.find("status varchar(255)"), 19, "status run_status");
  query(runs + kEctoEvents + kEctoRows);
  ASSERT_EQ(refusal(), "");
  const auto store = open_store(options()).value();
  RunFilter filter;
  filter.statuses = {Status::kRunning};
  EXPECT_EQ(store->list_runs(filter).value().runs.size(), 1U);
  const StuckMark mark{"old", 2, R"({"kind":"stuck"})", std::nullopt};
  EXPECT_EQ(store->mark_stuck(kSelf, "pass", {&mark, 1}).value().size(), 1U);
  EXPECT_EQ(store->count_by_status().value().at(Status::kStuck), 1U);
}

TEST_F(PgMigrateTest, AnIndexThatWasInterruptedIsBuiltAgain) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  query("CREATE INDEX council_ex_runs_running ON council_ex_runs (run_id)");
  query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'council_ex_runs_running'::regclass");
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(query("SELECT pg_get_expr(indpred, indrelid) IS NOT NULL FROM pg_index WHERE indexrelid = "
                  "'council_ex_runs_running'::regclass"),
            "t");
}

TEST_F(PgMigrateTest, IndexesThatAnotherDaemonBuildsAreNotWaitedFor) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  ASSERT_EQ(refusal(), "");
  query("DELETE FROM council_ex_recorder_schema WHERE version = 2; DROP INDEX council_ex_runs_running");
  query("INSERT INTO council_ex_leases VALUES ('migrate', 'another', now() + interval '1 hour')");
  const auto report = migrate(options(), false);
  ASSERT_TRUE(report) << report.error().message;
  const char* const indexes_recorded = "SELECT count(*) FROM council_ex_recorder_schema WHERE version = 2";
  EXPECT_EQ(query(indexes_recorded), "0");
  EXPECT_TRUE(open_store(options()));
  query("UPDATE council_ex_leases SET expires_at = now()");
  EXPECT_TRUE(migrate(options(), false));
  EXPECT_EQ(query(indexes_recorded), "1");
}

TEST_F(PgMigrateTest, VerifyingRequiresAValidIndexOfEventIdsWhateverItsName) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  ASSERT_EQ(refusal(), "");
  EXPECT_TRUE(migrate(options(), true));
  query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'council_ex_run_events_event'::regclass");
  const auto invalid = migrate(options(), true);
  ASSERT_FALSE(invalid);
  EXPECT_EQ(invalid.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(invalid.error().message, HasSubstr("CREATE UNIQUE INDEX CONCURRENTLY"));
  EXPECT_FALSE(open_store(options()).value()->indexes().value().events_unique);
  query(
      "DROP INDEX council_ex_run_events_event; CREATE UNIQUE INDEX theirs ON council_ex_run_events (event_id, "
      "run_id)");
  EXPECT_TRUE(migrate(options(), true));
  EXPECT_TRUE(open_store(options()).value()->indexes().value().events_unique);
  query("DROP INDEX theirs; CREATE UNIQUE INDEX part ON council_ex_run_events (run_id, event_id) WHERE seq > 7");
  EXPECT_FALSE(migrate(options(), true)) << "it leaves entries out";
}

TEST_F(PgMigrateTest, AnIdThatIsAKeyAlreadyGetsNoSecondIndex) {
  query(std::string(kEctoRuns) + kEctoEvents);
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(query("SELECT to_regclass('council_ex_run_events_id') IS NULL"), "t");
  EXPECT_EQ(query("SELECT max(version) FROM council_ex_recorder_schema"),
            std::to_string(postgresql_migrations().back().version));
}

TEST_F(PgMigrateTest, TheTablesAloneLeaveTheIndexesOfRowsToTheirBuilder) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  ASSERT_TRUE(migrate_tables(options()));
  EXPECT_FALSE(open_store(options()).value()->indexes().value().events_unique);
  IndexBuild build(options());
  const auto built = build.run();
  ASSERT_TRUE(built) << built.error().message;
  EXPECT_TRUE(built->all_valid);
  EXPECT_EQ(open_store(options()).value()->indexes().value().missing, "");
}

TEST_F(PgMigrateTest, DuplicateEventIdsAreReportedWithAnExampleAndARepair) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  ASSERT_EQ(refusal(), "");
  query("DROP INDEX council_ex_run_events_event; UPDATE council_ex_run_events SET event_id = 'e'");
  for (const bool verify_only : {true, false}) {
    const std::string words = refusal(migrate(options(), verify_only));
    EXPECT_THAT(words, HasSubstr("1 event ids more than once, for example (run_id, event_id)=(old, e) 2 times"));
    query("BEGIN; " + words.substr(words.find("UPDATE")) + "; ROLLBACK");
  }
}

TEST_F(PgMigrateTest, RunsInAnotherSchemaOfTheSearchPathAreFoundThere) {
  query("CREATE SCHEMA first; CREATE SCHEMA app");
  query(std::string("SET search_path = app;") + kEctoRuns + kEctoEvents + kEctoRows);
  query("ALTER DATABASE " + PrivatePostgres::database_of(url_) + " SET search_path = first, app");
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(query("SELECT DISTINCT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                  "WHERE relname LIKE 'council_ex%'"),
            "app");
  EXPECT_TRUE(open_store(options()).value()->find_run("old").value());
}

TEST_F(PgMigrateTest, RefusesTablesThatLackNeededColumnsAndNamesThem) {
  query(kEctoRuns);
  query("ALTER TABLE council_ex_runs DROP COLUMN result, DROP COLUMN oban_job_id");
  const std::string words = refusal();
  EXPECT_THAT(words, HasSubstr("oban_job_id, result"));
  EXPECT_EQ(query("SELECT count(*) FROM pg_class WHERE relname = 'council_ex_recorders'"), "0")
      << "nothing was changed";
}

TEST_F(PgMigrateTest, RefusesWhatCannotHoldTheValues) {
  struct Case {
    const char* change;
    const char* words;
  };
  for (const Case& wrong : {
           Case{"ALTER TABLE council_ex_runs ALTER attempt TYPE text", "attempt"},
           Case{"ALTER TABLE council_ex_runs ALTER finalized_at SET NOT NULL", "must allow NULL"},
           Case{"ALTER TABLE council_ex_runs ADD tenant integer NOT NULL", "tenant"},
           Case{"DROP INDEX council_ex_runs_run_id_index", "unique index on run_id"},
           Case{"ALTER TABLE council_ex_runs ALTER input TYPE text", "must be jsonb"},
       }) {
    query(std::string(kEctoRuns) + wrong.change);
    EXPECT_THAT(refusal(), HasSubstr(wrong.words)) << wrong.change;
    query("DROP TABLE council_ex_runs");
  }
}

TEST_F(PgMigrateTest, RefusesAHistoryThatHasOneSeqTwice) {
  query(std::string(kEctoRuns) + kEctoEvents + kEctoRows);
  query("UPDATE council_ex_run_events SET seq = 1");
  EXPECT_THAT(refusal(), HasSubstr("(run_id, seq)=(old, 1)"));
  EXPECT_EQ(query("SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "0") << "nothing is left behind";
}

TEST_F(PgMigrateTest, RefusesAView) {
  query("CREATE VIEW council_ex_runs AS SELECT 1 AS run_id");
  EXPECT_THAT(refusal(), HasSubstr("not a table"));
}

TEST_F(PgMigrateTest, TheTablesOfTheReleaseBeforeGetTheNewColumnsAndKeepTheirRows) {
  ASSERT_EQ(refusal(), "");
  query(
      "ALTER TABLE council_ex_runs DROP COLUMN queue, DROP COLUMN job_id, DROP COLUMN expires_in, DROP COLUMN usage, "
      "DROP COLUMN progress; DELETE FROM council_ex_recorder_schema WHERE version > 4; "
      "INSERT INTO council_ex_runs (run_id, status, oban_job_id) VALUES ('old', 'running', 7)");
  const auto missing = migrate(options(), true);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("0005_job_columns"));
  const std::string file = query("SELECT pg_relation_filenode('council_ex_runs')");
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(query("SELECT pg_relation_filenode('council_ex_runs')"), file) << "the table was rewritten";
  const auto store = open_store(options()).value();
  EXPECT_EQ(store->indexes().value().missing, "");
  const auto run = store->find_run("old").value();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->oban_job_id, 7);
  EXPECT_FALSE(run->queue || run->job_id || run->expires_in || run->usage || run->progress);
  // 0.1.0 names the columns that it knows, and goes on.
  EXPECT_EQ(query("SELECT DISTINCT oldest_daemon FROM council_ex_recorder_schema"), "0.1.0");
  query("INSERT INTO council_ex_runs (run_id, council, status) VALUES ('beside', 'demo', 'running')");
  EXPECT_FALSE(store->find_run("beside").value()->usage);
}

TEST_F(PgMigrateTest, WhereARunRunsIsUnknownOfTheRowsBeforeThatWasRecorded) {
  ASSERT_EQ(refusal(), "");
  query(
      "ALTER TABLE council_ex_runs DROP COLUMN host, DROP COLUMN unit, DROP COLUMN os_user, DROP COLUMN cwd, "
      "DROP COLUMN command; DELETE FROM council_ex_recorder_schema WHERE version > 7; "
      "INSERT INTO council_ex_runs (run_id, status) VALUES ('old', 'running')");
  EXPECT_THAT(migrate(options(), true).error().message, HasSubstr("0008_where"));
  const std::string file = query("SELECT pg_relation_filenode('council_ex_runs')");
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(query("SELECT pg_relation_filenode('council_ex_runs')"), file) << "the table was rewritten";
  const auto run = open_store(options()).value()->find_run("old").value();
  ASSERT_TRUE(run);
  EXPECT_FALSE(run->host || run->unit || run->os_user || run->cwd || run->command);
}

TEST_F(PgMigrateTest, AColumnThatAnApplicationHasAlreadyIsItsOwn) {
  query(std::string(kEctoRuns) + kEctoEvents);
  query("ALTER TABLE council_ex_runs ADD COLUMN host varchar(64), ADD COLUMN command jsonb");
  EXPECT_THAT(refusal(), HasSubstr("column command of council_ex_runs has type jsonb, it must be text"));
  query("ALTER TABLE council_ex_runs ALTER COLUMN command TYPE text");
  ASSERT_EQ(refusal(), "");
  EXPECT_EQ(
      query("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'council_ex_runs'::regclass "
            "AND attname = 'host'"),
      "character varying(64)");
}

TEST_F(PgMigrateTest, AJobsIdIsFoundByAnIndex) {
  ASSERT_EQ(refusal(), "");
  query(
      "INSERT INTO council_ex_runs (run_id, oban_job_id, job_id) SELECT 'r' || i, CASE WHEN i % 2 = 0 THEN i END, "
      "i::text FROM generate_series(1, 4000) i; ANALYZE council_ex_runs");
  const auto plan = [this](const std::string& condition) {
    return query("EXPLAIN SELECT * FROM council_ex_runs r WHERE " + condition);
  };
  EXPECT_THAT(plan("r.job_id = '7' AND r.oban_job_id IS NULL"), HasSubstr("council_ex_runs_job_id"));
  EXPECT_THAT(plan("r.oban_job_id = 8"), HasSubstr("council_ex_runs_job"));
}

TEST_F(PgMigrateTest, RefusesANewerSchemaOnlyWhereItSaysSo) {
  ASSERT_EQ(refusal(), "");
  query("INSERT INTO council_ex_recorder_schema (version, name, oldest_daemon) VALUES (99, 'later', '0.1.0')");
  EXPECT_EQ(refusal(), "");
  EXPECT_TRUE(open_store(options()));
  query("UPDATE council_ex_recorder_schema SET oldest_daemon = '99.0.0' WHERE version = 99");
  EXPECT_THAT(refusal(), HasSubstr("99.0.0"));
  EXPECT_THAT(refusal(migrate(options(), true)), HasSubstr("99.0.0"));
  EXPECT_EQ(open_store(options()).error().kind, ErrorKind::kRefused);
}

TEST_F(PgMigrateTest, RefusesAnEncodingThatCannotHoldEverything) {
  const std::string latin = server().create_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
  StoreOptions other;
  other.url = latin;
  EXPECT_THAT(refusal(migrate(other, false)), HasSubstr("UTF8"));
  server().drop_database(latin);
}

TEST_F(PgMigrateTest, RefusesARoleThatMayNotCreateTables) {
  query("CREATE ROLE nobody LOGIN");
  StoreOptions other;
  other.url = server().url(PrivatePostgres::database_of(url_), "nobody");
  EXPECT_THAT(refusal(migrate(other, false)), HasSubstr("permission denied"));
  query("DROP ROLE nobody");
}

TEST_F(PgMigrateTest, ATableInUseIsNotWaitedForLong) {
  query(kEctoRuns);
  PgOptions holding;
  holding.url = url_;
  const auto holder = PgConnection::connect(holding).value();
  ASSERT_TRUE(holder->begin());
  ASSERT_TRUE(holder->exec("SELECT * FROM council_ex_runs"));
  const auto busy = migrate(options(), false);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(busy.error().sqlstate, "55P03");
  holder->rollback();
  EXPECT_EQ(refusal(), "");
}

TEST_F(PgMigrateTest, APrefixThatIsNoNameIsInvalid) {
  StoreOptions other = options();
  other.table_prefix = "a\"; DROP TABLE x; --";
  EXPECT_EQ(migrate(other, false).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(open_store(other).error().kind, ErrorKind::kInvalid);
  other.table_prefix = "Upper_Case_";
  EXPECT_EQ(migrate(other, false).error().kind, ErrorKind::kInvalid) << "as the configuration has it";
}

}  // namespace
}  // namespace run_recorder::testing
