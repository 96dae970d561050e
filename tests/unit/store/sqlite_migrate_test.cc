// The schema in SQLite: made, verified, refused, and an application's own tables taken over.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "database/sqlite.h"
#include "store/sqlite_store.h"
#include "store/store.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {

namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// As ecto_sqlite3 makes CouncilEx's tables: texts, maps as JSON text, times without offset.
constexpr const char* kEctoRuns =
    "CREATE TABLE council_ex_runs (run_id TEXT NOT NULL PRIMARY KEY, council TEXT NOT NULL, status TEXT NOT NULL, "
    "attempt "
    "INTEGER DEFAULT 1 NOT NULL, parent_attempt_run_id TEXT, oban_job_id INTEGER, oban_job_state_at_finalize TEXT, "
    "input "
    "TEXT, result TEXT, error TEXT, started_at TEXT, finalized_at TEXT, inserted_at TEXT NOT NULL, updated_at TEXT "
    "NOT NULL)";
constexpr const char* kEctoEvents =
    "CREATE TABLE council_ex_run_events (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, seq INTEGER NOT "
    "NULL, "
    "type TEXT NOT NULL, payload TEXT, inserted_at TEXT NOT NULL)";

class SqliteMigrate : public ::testing::Test {
 protected:
  StoreOptions options() const {
    StoreOptions options;
    options.url = "sqlite:" + path();
    return options;
  }
  std::string path() const { return folder_.file("runs.db"); }
  SqliteConnection& database() {
    if (!connection_) connection_ = SqliteConnection::open({.path = path(), .create = true}).value();
    connection_->begin_call();
    return *connection_;
  }
  std::string text(const std::string& sql) {
    auto statement = database().prepare(sql).value();
    SqliteRows rows = statement.rows();
    return rows.next().value() ? std::string(rows.text(0)) : "nothing";
  }
  Error verify_error() const { return migrate(options(), true).error(); }
  // The tables as they were at that version, without these columns, and with a run "old". sql: what has to be done
  // before they can be dropped.
  Result<void> tables_at(int version, std::initializer_list<const char*> columns, std::string sql = {}) {
    if (const auto migrated = migrate(options(), false); !migrated) return migrated.error();
    sql += fmt::format("DELETE FROM council_ex_recorder_schema WHERE version > {};", version);
    for (const char* column : columns) sql += fmt::format("ALTER TABLE council_ex_runs DROP COLUMN {};", column);
    return database().execute(sql +
                              "INSERT INTO council_ex_runs (run_id, status, inserted_at, updated_at) VALUES "
                              "('old', 'running', '2026-01-02T03:04:05.000000Z', '')");
  }

  TempFolder folder_;
  std::unique_ptr<SqliteConnection> connection_;
};

}  // namespace

TEST_F(SqliteMigrate, MakesTheFileAndItsTablesOnce) {
  const auto first = migrate(options(), false);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_THAT(first->applied, Not(IsEmpty()));
  EXPECT_GE(first->schema_version, 1);
  const auto second = migrate(options(), false);
  ASSERT_TRUE(second);
  EXPECT_THAT(second->applied, IsEmpty());
  EXPECT_EQ(second->schema_version, first->schema_version);
  EXPECT_TRUE(migrate(options(), true));
  EXPECT_TRUE(open_store(options()));
}

TEST_F(SqliteMigrate, VerifyingChangesNothing) {
  const Error missing = verify_error();
  EXPECT_EQ(missing.kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.message, HasSubstr("--migrate"));
  EXPECT_FALSE(std::filesystem::exists(path()));
  database();
  const Error empty = verify_error();
  EXPECT_EQ(empty.kind, ErrorKind::kNotFound);
  EXPECT_THAT(empty.message, HasSubstr("--migrate"));
  EXPECT_EQ(text("SELECT count(*) FROM sqlite_master"), "0");
  EXPECT_EQ(open_store(options()).error().kind, ErrorKind::kNotFound);
}

TEST_F(SqliteMigrate, ManyAtOnceApplyItOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> applied = 0;
  std::atomic<int> failed = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const auto report = migrate(options(), false);
      if (!report) {
        ++failed;
      } else if (!report->applied.empty()) {
        ++applied;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(applied, 1);
}

TEST_F(SqliteMigrate, ANewerSchemaIsRefusedOnlyWhereItMustBe) {
  ASSERT_TRUE(migrate(options(), false));
  ASSERT_TRUE(database().execute("INSERT INTO council_ex_recorder_schema VALUES (99, '0099_later', '', '0.0.1')"));
  const auto beside = migrate(options(), false);
  ASSERT_TRUE(beside) << beside.error().message;
  EXPECT_EQ(beside->schema_version, 99);
  EXPECT_TRUE(open_store(options()));
  ASSERT_TRUE(
      database().execute("UPDATE council_ex_recorder_schema SET oldest_daemon = '999.0.0' WHERE version = 99"));
  for (const bool verify_only : {true, false}) {
    const auto refused = migrate(options(), verify_only);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
    EXPECT_THAT(refused.error().message, HasSubstr("999.0.0"));
  }
  EXPECT_EQ(open_store(options()).error().kind, ErrorKind::kRefused);
}

TEST_F(SqliteMigrate, AMissingTableOrColumnIsNamed) {
  ASSERT_TRUE(migrate(options(), false));
  ASSERT_TRUE(database().execute("DROP TABLE council_ex_leases; ALTER TABLE council_ex_recorders DROP COLUMN host"));
  const Error refused = verify_error();
  EXPECT_EQ(refused.kind, ErrorKind::kRefused);
  EXPECT_THAT(refused.message, HasSubstr("council_ex_leases"));
  EXPECT_THAT(refused.message, HasSubstr("host"));
}

TEST_F(SqliteMigrate, ABadPrefixIsInvalid) {
  StoreOptions bad = options();
  bad.table_prefix = "a\"; DROP TABLE x; --";
  EXPECT_EQ(migrate(bad, false).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(open_store(bad).error().kind, ErrorKind::kInvalid);
}

TEST_F(SqliteMigrate, TheSqlIsThatOfTheDatabaseWithItsPrefix) {
  StoreOptions mine = options();
  mine.table_prefix = "mine_";
  const std::string sql = migration_sql(mine);
  EXPECT_THAT(sql, HasSubstr("\"mine_runs\""));
  EXPECT_THAT(sql, Not(HasSubstr("{{prefix}}")));
  EXPECT_THAT(sql, Not(HasSubstr("jsonb")));
  mine.url = "postgresql:///x";
  EXPECT_THAT(migration_sql(mine), HasSubstr("jsonb"));
}

TEST_F(SqliteMigrate, AUrlOfNoKindIsInvalid) {
  StoreOptions odd = options();
  odd.url = "mysql://x";
  EXPECT_EQ(open_store(odd).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(migrate(odd, false).error().kind, ErrorKind::kInvalid);
}

// ---- an application's own tables

TEST_F(SqliteMigrate, AnApplicationsTablesAreTakenOver) {
  ASSERT_TRUE(database().execute(kEctoRuns));
  ASSERT_TRUE(database().execute(kEctoEvents));
  ASSERT_TRUE(database().execute(
      "INSERT INTO council_ex_runs (run_id, council, status, input, started_at, inserted_at, updated_at) VALUES "
      "('old', 'Demo', 'running', '{\"a\":1}', '2026-01-02T03:04:05.678901', '2026-01-02T03:04:05.678901', "
      "'2026-01-02 03:04:06'); "
      "INSERT INTO council_ex_run_events (run_id, seq, type, payload, inserted_at) VALUES "
      "('old', 1, 'run_started', '{}', '2026-01-02 03:04:05'), ('old', 2, 'note', NULL, '2026-01-02 03:04:06')"));
  const auto migrated = migrate(options(), false);
  ASSERT_TRUE(migrated) << migrated.error().message;
  const auto store = open_store(options()).value();
  const auto run = store->find_run("old").value();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->status, Status::kRunning);
  EXPECT_EQ(run->started_at, parse_rfc3339("2026-01-02T03:04:05.678901Z"));
  EXPECT_EQ(run->updated_at, parse_rfc3339("2026-01-02T03:04:06Z"));
  EXPECT_EQ(run->last_seq, 2) << "its history counts";
  EXPECT_EQ(run->recorder, "");
  EXPECT_FALSE(run->last_event_at);
  EXPECT_THAT(store->list_events("old", 10, "").value().events, SizeIs(2));

  // Its times count, whatever their form.
  const Timestamp later = parse_rfc3339("2026-01-02T03:04:06Z").value();
  EXPECT_THAT(store->running_rows("", 10, {later, later}).value(), SizeIs(1));
  EXPECT_THAT(store->running_rows("", 10, {{}, later - std::chrono::microseconds(1)}).value(), IsEmpty());
  RunFilter since;
  since.since = parse_rfc3339("2026-01-02T03:04:05.678901Z");
  EXPECT_THAT(store->list_runs(since).value().runs, SizeIs(1));
  since.since = parse_rfc3339("2026-01-02T03:04:05.678902Z");
  EXPECT_THAT(store->list_runs(since).value().runs, IsEmpty());
}

TEST_F(SqliteMigrate, ColumnsThatAnApplicationHasAlreadyAreNotAddedAgain) {
  ASSERT_TRUE(database().execute(std::string(kEctoRuns) + "; " + kEctoEvents +
                                 "; ALTER TABLE council_ex_runs ADD COLUMN queue VARCHAR(64)"));
  const auto migrated = migrate(options(), false);
  ASSERT_TRUE(migrated) << migrated.error().message;
  EXPECT_EQ(text("SELECT type FROM pragma_table_info('council_ex_runs') WHERE name = 'queue'"), "VARCHAR(64)");
  EXPECT_EQ(text("SELECT type FROM pragma_table_info('council_ex_runs') WHERE name = 'usage'"), "TEXT");
  EXPECT_TRUE(open_store(options()));
}

TEST_F(SqliteMigrate, TheTablesOfTheReleaseBeforeGetTheNewColumnsAndKeepTheirRows) {
  ASSERT_TRUE(tables_at(2, {"queue", "job_id", "expires_in", "usage", "progress"},
                        "DROP INDEX council_ex_runs_job_id; DROP INDEX council_ex_runs_queued_job;"));
  EXPECT_EQ(verify_error().kind, ErrorKind::kNotFound);
  const auto migrated = migrate(options(), false);
  ASSERT_TRUE(migrated) << migrated.error().message;
  EXPECT_THAT(migrated->applied, ::testing::Contains("0003_job_columns"));
  EXPECT_EQ(text("SELECT group_concat(DISTINCT oldest_daemon) FROM council_ex_recorder_schema"), "0.1.0");
  const auto run = open_store(options()).value()->find_run("old").value();
  ASSERT_TRUE(run);
  EXPECT_FALSE(run->queue || run->job_id || run->expires_in || run->usage || run->progress);
}

TEST_F(SqliteMigrate, WhereARunRunsIsUnknownOfTheRowsBeforeThatWasRecorded) {
  ASSERT_TRUE(tables_at(7, {"host", "unit", "os_user", "cwd", "command"}));
  EXPECT_EQ(verify_error().kind, ErrorKind::kNotFound);
  const auto migrated = migrate(options(), false);
  ASSERT_TRUE(migrated) << migrated.error().message;
  EXPECT_THAT(migrated->applied,
              ::testing::ElementsAre("0008_where", "0009_status_index", "0010_council_index", "0011_findings"));
  const auto run = open_store(options()).value()->find_run("old").value();
  ASSERT_TRUE(run);
  EXPECT_FALSE(run->host || run->unit || run->os_user || run->cwd || run->command);
}

TEST_F(SqliteMigrate, AJobsIdIsFoundByAnIndex) {
  ASSERT_TRUE(migrate(options(), false));
  auto plan = database().prepare(
      "EXPLAIN QUERY PLAN SELECT * FROM council_ex_runs r WHERE r.job_id = 'x' AND r.oban_job_id IS NULL");
  ASSERT_TRUE(plan);
  SqliteRows rows = plan->rows();
  ASSERT_TRUE(rows.next().value());
  EXPECT_THAT(std::string(rows.text(3)), HasSubstr("council_ex_runs_job_id"));
}

TEST_F(SqliteMigrate, AnApplicationsTimesWithASpaceAreListedSinceToo) {
  ASSERT_TRUE(database().execute(kEctoRuns));
  ASSERT_TRUE(
      database().execute("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) VALUES "
                         "('old', 'Demo', 'running', '2026-01-02 13:04:05', '2026-01-02 13:04:05')"));
  ASSERT_TRUE(migrate(options(), false));
  RunFilter since;
  since.since = parse_rfc3339("2026-01-02T13:00:00Z");
  EXPECT_THAT(open_store(options()).value()->list_runs(since).value().runs, SizeIs(1));
}

TEST_F(SqliteMigrate, RowsOfTheApplicationContinueTheirHistory) {
  ASSERT_TRUE(database().execute(kEctoRuns));
  ASSERT_TRUE(database().execute(kEctoEvents));
  ASSERT_TRUE(database().execute(
      "INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) VALUES "
      "('without', 'Demo', 'running', '2026-01-02 03:04:05', '2026-01-02 03:04:05'), "
      "('with', 'Demo', 'running', '2026-01-02 03:04:05', '2026-01-02 03:04:05'), "
      "('marked', 'Demo', 'running', '2026-01-02 03:04:05', '2026-01-02 03:04:05'); "
      "INSERT INTO council_ex_run_events (run_id, seq, type, payload, inserted_at) VALUES "
      "('with', 1, 'run_started', '{}', '2026-01-02 03:04:05'), ('with', 2, 'note', '{}', '2026-01-02 03:04:05'), "
      "('marked', 1, 'run_started', '{}', '2026-01-02 03:04:05')"));
  ASSERT_TRUE(migrate(options(), false));
  const auto store = open_store(options()).value();
  const RecorderSelf self{"recorder-1", "incarnation-1", "host", "0.1.0"};
  BatchWrite write;
  for (const std::string run_id : {"without", "with"}) {
    RunChange change;
    change.after = store->load({&run_id, 1}).value().at(0);
    change.expected_last_seq = change.after.last_seq;
    ++change.after.last_seq;
    change.after.status = Status::kCompleted;
    change.outcome_changed = true;
    HistoryEntry entry;
    entry.run_id = run_id;
    entry.seq = change.after.last_seq;
    entry.type = "run_completed";
    entry.payload = "{}";
    write.runs.push_back(change);
    write.history.push_back(entry);
  }
  EXPECT_EQ(write.history[0].seq, 1);
  EXPECT_EQ(write.history[1].seq, 3);
  EXPECT_EQ(store->commit(self, write).value(), Committed::kYes);
  EXPECT_EQ(store->find_run("with").value()->status, Status::kCompleted);
  EXPECT_EQ(store->commit(self, write).value(), Committed::kRaced) << "the rows have moved";

  const StuckMark outdated{"marked", 0, R"({"kind":"stuck"})", std::nullopt};
  EXPECT_THAT(store->mark_stuck(self, "pass", {&outdated, 1}).value(), IsEmpty());
  const StuckMark mark{"marked", 1, R"({"kind":"stuck"})", std::nullopt};
  EXPECT_THAT(store->mark_stuck(self, "pass", {&mark, 1}).value(), SizeIs(1));
  EXPECT_EQ(store->undo_pass(self, "pass").value().undone, 1U);
  EXPECT_EQ(store->find_run("marked").value()->last_seq, 3);
}

TEST_F(SqliteMigrate, ATableThatLacksANeededColumnIsRefusedByName) {
  ASSERT_TRUE(database().execute(kEctoRuns));
  ASSERT_TRUE(database().execute("ALTER TABLE council_ex_runs DROP COLUMN oban_job_id"));
  EXPECT_EQ(verify_error().kind, ErrorKind::kRefused);
  const auto refused = migrate(options(), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(refused.error().message, HasSubstr("oban_job_id"));
  EXPECT_EQ(text("SELECT count(*) FROM pragma_table_info('council_ex_runs') WHERE name = 'last_seq'"), "0")
      << "nothing was changed";
}

TEST_F(SqliteMigrate, ATableWithAColumnThatWeCannotFillIsRefused) {
  ASSERT_TRUE(database().execute(kEctoRuns));
  ASSERT_TRUE(database().execute("ALTER TABLE council_ex_runs ADD COLUMN tenant TEXT"));
  EXPECT_TRUE(migrate(options(), false)) << "it may be empty";
  connection_.reset();
  std::filesystem::remove(path());
  ASSERT_TRUE(
      database().execute("CREATE TABLE council_ex_runs (run_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, council, "
                         "status, attempt, parent_attempt_run_id, oban_job_id, oban_job_state_at_finalize, input, "
                         "result, error, started_at, finalized_at, inserted_at, updated_at)"));
  const auto refused = migrate(options(), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(refused.error().message, HasSubstr("tenant"));
}

TEST_F(SqliteMigrate, AHistoryWhoseKeyNobodyMakesIsRefused) {
  ASSERT_TRUE(
      database().execute("CREATE TABLE council_ex_run_events (id BIGINT PRIMARY KEY, run_id TEXT, seq INTEGER, type "
                         "TEXT, payload TEXT, inserted_at TEXT)"));
  const auto refused = migrate(options(), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(refused.error().message, HasSubstr("run_events"));
}

TEST_F(SqliteMigrate, RunIdBecomesUniqueOrTheTableIsRefused) {
  const std::string loose = [] {
    std::string sql = kEctoRuns;
    return sql.replace(sql.find(" PRIMARY KEY"), 12, "");
  }();
  ASSERT_TRUE(database().execute(loose));
  ASSERT_TRUE(
      database().execute("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) VALUES "
                         "('twice', 'a', 'running', '', ''), ('twice', 'b', 'running', '', '')"));
  const auto refused = migrate(options(), false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(database().execute("DELETE FROM council_ex_runs WHERE council = 'b'"));
  EXPECT_TRUE(migrate(options(), false));
  EXPECT_TRUE(open_store(options()));
}

TEST_F(SqliteMigrate, AStoreWhoseFileWasReplacedIsUnavailable) {
  ASSERT_TRUE(migrate(options(), false));
  const auto store = open_store(options()).value();
  EXPECT_TRUE(store->find_run("r"));
  std::filesystem::rename(path(), folder_.file("old.db"));
  EXPECT_EQ(store->find_run("r").error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(store->commit({"recorder-1", "incarnation-1", "host", "0.1.0"}, {}).error().kind,
            ErrorKind::kUnavailable);
}

TEST_F(SqliteMigrate, TheHostsClockIsAParameter) {
  ASSERT_TRUE(migrate(options(), false));
  Timestamp now = parse_rfc3339("2026-01-02T03:04:05Z").value();
  const auto store = open_sqlite_store(options(), [&now] { return now; }).value();
  EXPECT_EQ(store->database_now().value(), now);
  EXPECT_TRUE(store->acquire_lease(kPassLease, "one", std::chrono::minutes(10)).value());
  now += std::chrono::minutes(9);
  EXPECT_FALSE(store->acquire_lease(kPassLease, "two", std::chrono::minutes(10)).value());
  now += std::chrono::minutes(1);
  EXPECT_TRUE(store->acquire_lease(kPassLease, "two", std::chrono::minutes(10)).value());
  EXPECT_FALSE(store->server_age().value());
}

}  // namespace run_recorder::testing
