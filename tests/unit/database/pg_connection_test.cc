#include "database/pg_connection.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "database/process_deadline.h"
#include "support/private_postgres.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::PrivatePostgres;

std::unique_ptr<PgConnection> connect(const std::string& url, milliseconds deadline = milliseconds(30'000)) {
  PgOptions options;
  options.url = url;
  options.deadline = deadline;
  return PgConnection::connect(options).value();
}

int backend_pid(PgConnection& connection) {
  return (*connection.exec("SELECT pg_backend_pid()"))[0][0].as<int>();
}

class PgConnectionTest : public ::testing::Test {
 protected:
  PrivatePostgres& server = PrivatePostgres::shared();
  std::string url = server.url("postgres");
};

TEST_F(PgConnectionTest, ParametersArriveAsTheyAreAndNullIsNull) {
  const auto connection = connect(url);
  const std::string odd = "a'b\\c\"\n€";
  const auto rows = connection->exec("SELECT $1::text, $2::text, $3::bigint, $4::text, $5::boolean",
                                     {odd, std::nullopt, std::int64_t{-7}, std::optional<std::string>("x"), true});
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ((*rows)[0][0].c_str(), odd);
  EXPECT_TRUE((*rows)[0][1].is_null());
  EXPECT_STREQ((*rows)[0][2].c_str(), "-7");
  EXPECT_STREQ((*rows)[0][3].c_str(), "x");
  EXPECT_STREQ((*rows)[0][4].c_str(), "t");
}

TEST_F(PgConnectionTest, NamesItselfToTheServer) {
  const auto connection = connect(url);
  EXPECT_STREQ((*connection->exec("SELECT current_setting('application_name')"))[0][0].c_str(), "run-recorder");
  EXPECT_STREQ((*connection->exec("SELECT current_setting('client_encoding')"))[0][0].c_str(), "UTF8");
}

TEST(PgUrl, NamesAnOptionThatLibpqDoesNotKnow) {
  PgOptions options;
  options.url = "postgresql://u:secret@127.0.0.1:1/d?replication=true&ssl=true&sslmode=disable&no_such_option=value";
  const auto refused = PgConnection::connect(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalid);
  const std::string& message = refused.error().message;
  EXPECT_EQ(
      message.rfind("invalid database url: unknown option \"no_such_option\": must be one of service, user, ", 0), 0U)
      << message;
  EXPECT_NE(message.find(", target_session_attrs"), std::string::npos) << message;
  EXPECT_EQ(message.find("secret"), std::string::npos) << message;
  EXPECT_EQ(message.find("value"), std::string::npos) << message;
}

TEST_F(PgConnectionTest, TellsErrorsOfTheDataFromAllOthers) {
  const auto connection = connect(url);
  const std::vector<std::pair<std::string, std::string>> data{
      {"SELECT 1/0", "22012"},
      {"SELECT 'x'::jsonb", "22P02"},
      {"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '23514'; END $$", "23514"},
      {"DO $$ BEGIN RAISE EXCEPTION 'no'; END $$", "P0001"}};
  for (const auto& [sql, sqlstate] : data) {
    const auto failed = connection->exec(sql);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kData) << sql;
    EXPECT_EQ(failed.error().sqlstate, sqlstate);
  }
  const std::vector<std::pair<std::string, std::string>> others{
      {"SELECT * FROM no_such_table", "42P01"},
      {"SELECT nonsense(", "42601"},
      {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$", "53100"},
      {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$", "40001"},
      {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25006'; END $$", "25006"},
      {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03'; END $$", "55P03"}};
  for (const auto& [sql, sqlstate] : others) {
    const auto failed = connection->exec(sql);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable) << sql;
    EXPECT_EQ(failed.error().sqlstate, sqlstate);
  }
  EXPECT_TRUE(connection->exec("SELECT 1"));
}

TEST_F(PgConnectionTest, ATransactionThatFailedCannotBeCommitted) {
  const std::string own = server.create_database();
  const auto connection = connect(own);
  ASSERT_TRUE(connection->exec("CREATE TABLE t (x int)"));
  ASSERT_TRUE(connection->begin());
  ASSERT_TRUE(connection->exec("INSERT INTO t VALUES (1)"));
  EXPECT_FALSE(connection->exec("SELECT 1/0"));
  const auto committed = connection->commit();
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kInternal);
  EXPECT_EQ(server.query(own, "SELECT count(*) FROM t"), "0");
  EXPECT_TRUE(connection->exec("SELECT 1"));
}

TEST_F(PgConnectionTest, AConstraintThatFailsAtCommitIsAnErrorOfTheDataAndNotInDoubt) {
  const std::string own = server.create_database();
  const auto connection = connect(own);
  ASSERT_TRUE(connection->exec_script(
      "CREATE TABLE t (x int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES (1)"));
  ASSERT_TRUE(connection->begin());
  ASSERT_TRUE(connection->exec("INSERT INTO t VALUES (1)"));
  const auto committed = connection->commit();
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kData);
}

TEST_F(PgConnectionTest, ATerminatedBackendIsUnavailableAndStaysSo) {
  const auto connection = connect(url);
  server.query(url, "SELECT pg_terminate_backend(" + std::to_string(backend_pid(*connection)) + ")");
  const auto failed = connection->exec("SELECT pg_sleep(0)");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable);
  EXPECT_TRUE(connection->broken());
  EXPECT_EQ(connection->exec("SELECT 1").error().kind, ErrorKind::kUnavailable);
}

TEST_F(PgConnectionTest, ReconnectsBetweenTransactionsOnlyWhereConfigured) {
  PgOptions options;
  options.url = url;
  options.reconnects_at_begin = true;
  const auto connection = PgConnection::connect(options).value();
  const auto end_it = [&] {
    server.query(url, "SELECT pg_terminate_backend(" + std::to_string(backend_pid(*connection)) + ", 60000)");
  };
  for (int i = 0; i < 2; ++i) {
    const int before = backend_pid(*connection);
    end_it();
    ASSERT_TRUE(connection->exec("SELECT 1"));
    EXPECT_NE(backend_pid(*connection), before);
  }
  ASSERT_TRUE(connection->begin());
  end_it();
  EXPECT_EQ(connection->exec("SELECT 1").error().kind, ErrorKind::kUnavailable) << "something may have been done";
  connection->rollback();
  EXPECT_EQ(connection->exec("SELECT 1").error().kind, ErrorKind::kUnavailable) << "a break that was said stays";
}

TEST_F(PgConnectionTest, AReconnectKeepsTheDeadline) {
  PgOptions options;
  options.url = url;
  options.deadline = milliseconds(500);
  options.reconnects_at_begin = true;
  const auto connection = PgConnection::connect(options).value();
  server.query(url, "SELECT pg_terminate_backend(" + std::to_string(backend_pid(*connection)) + ", 60000)");
  const PgConnection::Deadline deadline(*connection);
  ASSERT_TRUE(connection->begin());
  EXPECT_EQ(connection->exec("SELECT pg_sleep(600)").error().kind, ErrorKind::kUnavailable);
}

TEST_F(PgConnectionTest, ABackendThatEndsDuringCommitLeavesTheCommitInDoubt) {
  const std::string own = server.create_database();
  const auto connection = connect(own);
  // A deferred trigger runs inside of COMMIT and ends its own backend there.
  ASSERT_TRUE(connection->exec_script(
      "CREATE TABLE t (x int);"
      "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
      "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END $$;"
      "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "
      "die()"));
  ASSERT_TRUE(connection->begin());
  ASSERT_TRUE(connection->exec("INSERT INTO t VALUES (1)"));
  const auto committed = connection->commit();
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().kind, ErrorKind::kInDoubt);
}

TEST_F(PgConnectionTest, AFrozenServerEndsTheCallAtItsDeadline) {
  PrivatePostgres own;
  const auto connection = connect(own.url("postgres"), milliseconds(2'000));
  own.freeze();
  const auto failed = connection->exec("SELECT 1");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable);
  EXPECT_NE(failed.error().message.find("2s"), std::string::npos) << failed.error().message;
  EXPECT_TRUE(connection->broken());
  own.thaw();
}

TEST_F(PgConnectionTest, AFrozenServerEndsConnectingAtItsTimeLimit) {
  PrivatePostgres own;
  own.freeze();
  PgOptions options;
  options.url = own.url("postgres");
  options.connect_timeout = milliseconds(1'000);
  const auto failed = PgConnection::connect(options);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable);
  own.thaw();
}

TEST_F(PgConnectionTest, CallsUnderOneDeadlineShareIt) {
  const auto connection = connect(url, milliseconds(2'000));
  const PgConnection::Deadline deadline(*connection);
  int calls = 0;
  while (calls < 10 && connection->exec("SELECT pg_sleep(0.8)")) ++calls;
  EXPECT_LT(calls, 3);  // each alone is within the deadline, three of them are not
  EXPECT_EQ(connection->exec("SELECT 1").error().kind, ErrorKind::kUnavailable);
}

// A backend that waits for a lock does not notice that nobody waits for it any more.
TEST_F(PgConnectionTest, TheServerCancelsAStatementThatWaitsForALock) {
  const std::string own = server.create_database();
  const auto holder = connect(own);
  ASSERT_TRUE(holder->exec("CREATE TABLE t (x int)"));
  ASSERT_TRUE(holder->begin());
  ASSERT_TRUE(holder->exec("LOCK TABLE t"));
  for (const bool in_transaction : {false, true}) {
    const auto waiting = connect(own, milliseconds(2'000));
    ASSERT_TRUE(!in_transaction || waiting->begin());
    const auto failed = waiting->exec("SELECT * FROM t");
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable);
  }
  const auto left = [&] {
    return server.query(url, "SELECT count(*) FROM pg_stat_activity WHERE datname = '" +
                                 PrivatePostgres::database_of(own) + "' AND wait_event_type = 'Lock'");
  };
  while (left() != "0") std::this_thread::sleep_for(milliseconds(20));
  holder->rollback();
}

TEST_F(PgConnectionTest, TheProcessDeadlineEndsCallsUnderWayAndLaterOnes) {
  const auto connection = connect(url);
  const auto other = connect(url);
  const std::string is_active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = " +
                                std::to_string(backend_pid(*connection));
  std::thread caller([&] {
    const auto failed = connection->exec("SELECT pg_sleep(600)");
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kUnavailable);
    EXPECT_NE(failed.error().message.find("shutdown deadline"), std::string::npos) << failed.error().message;
  });
  while (server.query(url, is_active) != "1") std::this_thread::sleep_for(milliseconds(5));
  set_process_deadline(steady_clock::now());
  caller.join();
  EXPECT_EQ(other->exec("SELECT pg_sleep(600)").error().kind, ErrorKind::kUnavailable);
  PgOptions options;
  options.url = url;
  EXPECT_EQ(PgConnection::connect(options).error().kind, ErrorKind::kUnavailable);
  set_process_deadline(steady_clock::time_point::max());
  EXPECT_TRUE(connect(url)->exec("SELECT 1"));
}

TEST_F(PgConnectionTest, NoMessageHoldsThePassword) {
  for (const std::string& bad : std::vector<std::string>{
           "postgresql://user:se/cret@localhost:1/db", "postgresql://user:se%zzcret@localhost:1/db",
           "postgresql://user:secret@localhost:1/db?no_such_option=1",
           "postgresql://user:secret@no-such-host.invalid/db",
           "postgresql:///postgres?host=" + server.folder() + "&user=nobody_here&password=secret"}) {
    PgOptions options;
    options.url = bad;
    const auto failed = PgConnection::connect(options);
    ASSERT_FALSE(failed) << bad;
    EXPECT_EQ(failed.error().message.find("cret"), std::string::npos) << failed.error().message;
  }
}

TEST_F(PgConnectionTest, ManyConnectionsShareTheWatchdog) {
  std::vector<std::thread> threads;
  std::atomic<int> timed_out = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto connection = connect(url, milliseconds(i % 2 == 0 ? 200 : 30'000));
      const auto slept = connection->exec("SELECT pg_sleep(1)");
      if (!slept) ++timed_out;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(timed_out, 2);
}

}  // namespace
}  // namespace run_recorder
