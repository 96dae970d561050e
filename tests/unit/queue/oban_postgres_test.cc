// Oban's jobs in a real PostgreSQL: tables as Oban's own migrations make them, with and without a prefix, before and
// after the state `suspended` came.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "queue/queue.h"
#include "support/private_postgres.h"

namespace run_recorder::testing {

namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;
using Kind = JobAnswer::Kind;

// Times are written relative to the server's clock, as Oban writes them: UTC without time zone.
std::string ago(std::string_view interval) {
  return fmt::format("(clock_timestamp() AT TIME ZONE 'UTC') - interval '{}'", interval);
}

class ObanDatabase {
 public:
  explicit ObanDatabase(std::string schema = "public", bool suspended = true) : schema_(std::move(schema)) {
    if (schema_ != "public") execute(fmt::format("CREATE SCHEMA \"{}\"", schema_));
    execute(
        fmt::format("CREATE TYPE \"{}\".oban_job_state AS ENUM ('available', {}'scheduled', 'executing', "
                    "'retryable', 'completed', 'discarded', 'cancelled')",
                    schema_, suspended ? "'suspended', " : ""));
    execute(fmt::format(
        "CREATE TABLE \"{0}\".oban_jobs (id bigserial PRIMARY KEY, state \"{0}\".oban_job_state NOT NULL DEFAULT "
        "'available', queue text NOT NULL DEFAULT 'default', worker text NOT NULL DEFAULT 'W', args jsonb NOT NULL "
        "DEFAULT '{{}}', errors jsonb[] NOT NULL DEFAULT ARRAY[]::jsonb[], attempt integer NOT NULL DEFAULT 0, "
        "max_attempts integer NOT NULL DEFAULT 20, priority integer NOT NULL DEFAULT 0, tags text[] DEFAULT "
        "ARRAY[]::text[], meta jsonb DEFAULT '{{}}', attempted_by text[], inserted_at timestamp NOT NULL DEFAULT "
        "timezone('UTC', now()), scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()), attempted_at "
        "timestamp, "
        "completed_at timestamp, cancelled_at timestamp, discarded_at timestamp)",
        schema_));
  }
  ~ObanDatabase() { PrivatePostgres::shared().drop_database(url_); }
  ObanDatabase(const ObanDatabase&) = delete;
  ObanDatabase& operator=(const ObanDatabase&) = delete;

  void execute(const std::string& sql) { PrivatePostgres::shared().query(url_, sql); }
  // A job that was inserted, and due, a day ago, with more columns as given.
  void add_job(std::int64_t id, std::string_view columns = "", std::string_view values = "") {
    execute(fmt::format("INSERT INTO \"{}\".oban_jobs (id, inserted_at, scheduled_at{}{}) VALUES ({}, {}, {}{}{})",
                        schema_, columns.empty() ? "" : ", ", columns, id, ago("1 day"), ago("1 day"),
                        values.empty() ? "" : ", ", values));
  }
  QueueOptions options() const {
    QueueOptions options;
    options.url = url_;
    if (schema_ != "public") options.table = schema_ + ".oban_jobs";
    return options;
  }
  const std::string& url() const { return url_; }

 private:
  std::string schema_;
  std::string url_ = PrivatePostgres::shared().create_database();
};

JobAnswer ask(JobQueue& queue, std::int64_t id) {
  const JobAsked asked{.job_id = std::to_string(id)};
  return queue.look_up({&asked, 1}).at(0);
}
JobAnswer ask(const ObanDatabase& database, std::int64_t id) {
  return ask(*make_oban_queue(database.options()), id);
}

void expect_age(const JobAnswer& job, std::chrono::milliseconds age) {
  ASSERT_FALSE(job.state.empty()) << job.detail;
  ASSERT_TRUE(job.changed_ago);
  EXPECT_GE(*job.changed_ago, age - 10s) << "less what clocks may differ";
  EXPECT_LE(*job.changed_ago, age + 10min);
}

class ObanPostgres : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!PrivatePostgres::installed()) GTEST_SKIP() << "PostgreSQL is not installed";
  }
};

struct Shape {
  const char* name;
  const char* schema;
  bool suspended;
};
class ObanShapes : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    if (!PrivatePostgres::installed()) GTEST_SKIP() << "PostgreSQL is not installed";
  }
};
INSTANTIATE_TEST_SUITE_P(Postgres, ObanShapes,
                         ::testing::Values(Shape{"Public", "public", false}, Shape{"PublicSuspended", "public", true},
                                           Shape{"Private", "private", false},
                                           Shape{"OddNameSuspended", "odd Name $1", true}),
                         [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace

TEST_P(ObanShapes, EveryStateIsFoundWithItsAttempt) {
  ObanDatabase database(GetParam().schema, GetParam().suspended);
  std::vector<std::string> states{"available", "scheduled", "executing", "retryable",
                                  "completed", "discarded", "cancelled"};
  if (GetParam().suspended) states.push_back("suspended");
  for (std::size_t i = 0; i < states.size(); ++i) {
    database.add_job(static_cast<std::int64_t>(i) + 1, "state, attempt", fmt::format("'{}', {}", states[i], i));
  }
  const auto queue = make_oban_queue(database.options());
  EXPECT_TRUE(queue->check());
  for (std::size_t i = 0; i < states.size(); ++i) {
    const JobAnswer job = ask(*queue, static_cast<std::int64_t>(i) + 1);
    const Kind expected = states[i] == "executing"   ? Kind::kWorking
                          : states[i] == "completed" ? Kind::kFinished
                                                     : Kind::kNotExecuting;
    EXPECT_EQ(job.kind, expected) << job.detail;
    EXPECT_EQ(job.ended, states[i] == "discarded" || states[i] == "cancelled");
    EXPECT_EQ(job.state, states[i]);
    EXPECT_EQ(job.attempt, static_cast<std::int64_t>(i));
  }
  EXPECT_EQ(ask(*queue, 9'223'372'036'854'775'807).kind, Kind::kAbsent);
}

TEST_F(ObanPostgres, AnEmptyQuestionHasAnEmptyAnswer) {
  ObanDatabase database;
  EXPECT_TRUE(make_oban_queue(database.options())->look_up({}).empty());
}

TEST_F(ObanPostgres, TheAgeIsSinceTheLatestOfAllTimes) {
  ObanDatabase database;
  database.add_job(1);
  expect_age(ask(database, 1), 24h);
  std::int64_t id = 2;
  for (const char* column : {"attempted_at", "completed_at", "cancelled_at", "discarded_at"}) {
    database.add_job(id, column, ago("2 hours"));
    expect_age(ask(database, id++), 2h);
  }
  database.add_job(id, "attempted_at, completed_at", fmt::format("{}, {}", ago("3 hours"), ago("1 hour")));
  expect_age(ask(database, id), 1h);
}

TEST_F(ObanPostgres, ATimeItIsScheduledForCountsOnceItHasCome) {
  ObanDatabase database;
  database.add_job(1);
  database.add_job(2);
  database.execute(fmt::format("UPDATE oban_jobs SET scheduled_at = {} WHERE id = 1", ago("1 hour")));
  database.execute(fmt::format("UPDATE oban_jobs SET scheduled_at = {} WHERE id = 2", ago("-1 hour")));
  expect_age(ask(database, 1), 1h);
  expect_age(ask(database, 2), 24h);
}

TEST_F(ObanPostgres, TheAgeCountsTheLastErrorAndIgnoresMalformedOnes) {
  ObanDatabase database;
  const auto entry = [](std::string_view interval) {
    return fmt::format("jsonb_build_object('at', to_char({}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'attempt', 1)",
                       ago(interval));
  };
  database.add_job(1, "errors", fmt::format("ARRAY[{}, {}]", entry("5 hours"), entry("2 hours")));
  expect_age(ask(database, 1), 2h);
  // Without offset, as older versions wrote it.
  database.add_job(
      2, "errors",
      fmt::format("ARRAY[jsonb_build_object('at', to_char({}, 'YYYY-MM-DD\"T\"HH24:MI:SS'))]", ago("2 hours")));
  expect_age(ask(database, 2), 2h);
  std::int64_t id = 3;
  for (const char* garbage :
       {"'7'", "'\"text\"'", "'null'", "'[]'", "'{}'", "'{\"at\":null}'", "'{\"at\":\"yesterday\"}'", "'{\"at\":17}'",
        "'{\"at\":{\"a\":1}}'", "'{\"at\":\"9999-12-31T00:00:00Z\"}'"}) {
    database.add_job(id, "errors", fmt::format("ARRAY[{}::jsonb]", garbage));
    expect_age(ask(database, id++), 24h);
  }
}

TEST_F(ObanPostgres, IgnoresInfiniteTimesAndCountsFutureOnesAsNow) {
  ObanDatabase database;
  database.add_job(1, "attempted_at, completed_at", "'infinity', '-infinity'");
  database.add_job(2, "attempted_at", ago("-1 hour"));
  expect_age(ask(database, 1), 24h);
  EXPECT_EQ(ask(database, 2).changed_ago, 0ms);
}

TEST_F(ObanPostgres, ReadsTimesInEveryTimeZoneOfTheServer) {
  for (const char* zone : {"Asia/Tokyo", "America/New_York", "UTC"}) {
    ObanDatabase database;
    database.execute(
        fmt::format("ALTER DATABASE \"{}\" SET timezone = '{}'", PrivatePostgres::database_of(database.url()), zone));
    database.execute(fmt::format("ALTER DATABASE \"{}\" SET datestyle = 'SQL, DMY'",
                                 PrivatePostgres::database_of(database.url())));
    database.add_job(1, "attempted_at", ago("2 hours"));
    expect_age(ask(database, 1), 2h);
  }
}

TEST_F(ObanPostgres, LooksUpManyIdsAtOnce) {
  ObanDatabase database;
  database.execute(
      "INSERT INTO oban_jobs (id, state, attempt) SELECT i, 'executing', 1 FROM generate_series(1, 6000) i");
  std::vector<JobAsked> ids;
  for (int id = 1; id <= 12'000; ++id) ids.push_back({.job_id = std::to_string(id)});
  const auto answers = make_oban_queue(database.options())->look_up(ids);
  ASSERT_EQ(answers.size(), ids.size());
  EXPECT_EQ(answers.at(0).kind, Kind::kWorking);
  EXPECT_EQ(answers.at(5'999).kind, Kind::kWorking);
  EXPECT_EQ(answers.at(6'000).kind, Kind::kAbsent);
  EXPECT_EQ(answers.at(11'999).kind, Kind::kAbsent);
}

TEST_F(ObanPostgres, AMissingTableIsUnavailableUntilItIsThere) {
  ObanDatabase database;
  database.add_job(1);
  QueueOptions options = database.options();
  options.table = "later.oban_jobs";
  const auto queue = make_oban_queue(options);
  const JobAnswer missing = ask(*queue, 1);
  EXPECT_EQ(missing.kind, Kind::kCannotTell);
  EXPECT_THAT(missing.detail, HasSubstr("later"));
  EXPECT_THAT(missing.detail, HasSubstr("schema where Oban has a prefix"));
  EXPECT_FALSE(queue->check());
  database.execute("CREATE SCHEMA later; ALTER TABLE oban_jobs SET SCHEMA later");
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kNotExecuting);
  EXPECT_TRUE(queue->check());
}

TEST_F(ObanPostgres, AMissingColumnIsUnavailable) {
  ObanDatabase database;
  database.add_job(1);
  database.execute("ALTER TABLE oban_jobs DROP COLUMN cancelled_at");
  const JobAnswer job = ask(database, 1);
  EXPECT_EQ(job.kind, Kind::kCannotTell);
  EXPECT_THAT(job.detail, HasSubstr("cancelled_at"));
}

TEST_F(ObanPostgres, ADeniedTableIsUnavailableAndOneMayOnlyBeRead) {
  ObanDatabase database;
  database.add_job(1, "state", "'executing'");
  const std::string name = PrivatePostgres::database_of(database.url());
  const std::string user = "reader_of_" + name;
  database.execute(fmt::format("CREATE ROLE \"{}\" LOGIN", user));
  QueueOptions options = database.options();
  options.url = PrivatePostgres::shared().url(name, user);
  const auto queue = make_oban_queue(options);
  const JobAnswer denied = ask(*queue, 1);
  EXPECT_EQ(denied.kind, Kind::kCannotTell);
  EXPECT_THAT(denied.detail, HasSubstr("SELECT"));
  database.execute(fmt::format(
      "GRANT SELECT ON oban_jobs TO \"{0}\"; ALTER ROLE \"{0}\" SET default_transaction_read_only = on", user));
  EXPECT_EQ(ask(*queue, 1).state, "executing");
  database.execute(fmt::format("DROP OWNED BY \"{0}\"; DROP ROLE \"{0}\"", user));
}

TEST_F(ObanPostgres, AJobThatAPolicyMayHideIsNotAbsent) {
  ObanDatabase database;
  database.add_job(1, "state, queue", "'executing', 'shown'");
  database.add_job(2, "state, queue", "'executing', 'hidden'");
  const std::string name = PrivatePostgres::database_of(database.url());
  const std::string user = "guarded_of_" + name;
  database.execute(fmt::format("CREATE ROLE \"{0}\" LOGIN; GRANT SELECT ON oban_jobs TO \"{0}\"", user));
  QueueOptions options = database.options();
  options.url = PrivatePostgres::shared().url(name, user);
  const auto queue = make_oban_queue(options);
  EXPECT_TRUE(queue->check());
  EXPECT_EQ(ask(*queue, 3).kind, Kind::kAbsent);

  database.execute("ALTER TABLE oban_jobs ENABLE ROW LEVEL SECURITY");
  EXPECT_EQ(ask(*queue, 2).kind, Kind::kCannotTell) << "no policy shows anything";
  EXPECT_THAT(ask(*queue, 2).detail, HasSubstr("row level security"));
  EXPECT_THAT(queue->check().error().message, HasSubstr("BYPASSRLS"));

  database.execute(fmt::format("CREATE POLICY some_rows ON oban_jobs TO \"{}\" USING (queue = 'shown')", user));
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kWorking);
  EXPECT_EQ(ask(*queue, 2).kind, Kind::kCannotTell) << "some are shown, others are not";
  EXPECT_FALSE(queue->check());

  database.execute(fmt::format("CREATE POLICY all_rows ON oban_jobs TO \"{}\" USING (true)", user));
  EXPECT_EQ(ask(*queue, 2).kind, Kind::kWorking);
  EXPECT_EQ(ask(*queue, 3).kind, Kind::kAbsent) << "a policy that shows every row hides none";
  EXPECT_TRUE(queue->check());

  database.execute(
      fmt::format("CREATE POLICY all_but ON oban_jobs AS RESTRICTIVE TO \"{}\" USING (queue = 'shown')", user));
  EXPECT_EQ(ask(*queue, 3).kind, Kind::kCannotTell) << "a restrictive one takes rows away again";
  database.execute(fmt::format("ALTER ROLE \"{}\" BYPASSRLS", user));
  EXPECT_EQ(ask(*make_oban_queue(options), 3).kind, Kind::kAbsent);
  database.execute(fmt::format("DROP OWNED BY \"{0}\"; DROP ROLE \"{0}\"", user));
}

TEST_F(ObanPostgres, TheClaimsTimeIsReadWhateverTheSessionsZone) {
  ObanDatabase database;
  database.execute(
      fmt::format("ALTER DATABASE \"{}\" SET timezone = 'Asia/Tokyo'", PrivatePostgres::database_of(database.url())));
  database.add_job(7, "state, attempt, attempted_at", "'executing', 1, '2026-03-01 12:00:00.000001'");
  database.execute("UPDATE oban_jobs SET inserted_at = '2026-03-01 11:00:00'");
  const auto queue = make_oban_queue(database.options());
  const auto kind = [&](const char* started) {
    const JobAsked asked{.job_id = "7", .attempt = 1, .started_at = parse_rfc3339(started).value()};
    return queue->look_up({&asked, 1}).at(0).kind;
  };
  EXPECT_EQ(kind("2026-03-01T12:00:00Z"), Kind::kWorking);
  EXPECT_EQ(kind("2026-03-01T11:59:50.000001Z"), Kind::kWorking) << "the node's clock is ahead by clock_skew";
  EXPECT_EQ(kind("2026-03-01T11:59:50Z"), Kind::kOtherExecution);
  EXPECT_EQ(kind("2026-03-01T10:00:00Z"), Kind::kAbsent);
  database.execute("UPDATE oban_jobs SET attempted_at = 'infinity'");
  EXPECT_EQ(kind("2026-03-01T11:59:50Z"), Kind::kWorking);
  database.execute("UPDATE oban_jobs SET attempted_at = NULL");
  EXPECT_EQ(kind("2026-03-01T11:59:50Z"), Kind::kWorking);
}

TEST_F(ObanPostgres, AnswersTwoExecutionsOfOneJobSeparately) {
  ObanDatabase database;
  database.add_job(7, "state, attempt", "'executing', 2");
  const std::vector<JobAsked> both = {{.job_id = "7", .attempt = 1}, {.job_id = "7", .attempt = 2}, {.job_id = "x7"}};
  const auto answers = make_oban_queue(database.options())->look_up(both);
  EXPECT_EQ(answers.at(0).kind, Kind::kOtherExecution);
  EXPECT_EQ(answers.at(1).kind, Kind::kWorking);
  EXPECT_EQ(answers.at(2).kind, Kind::kCannotTell);
  EXPECT_FALSE(answers.at(2).unreachable);
}

TEST_F(ObanPostgres, AConnectionThatTheServerClosedIsNoBadAnswer) {
  ObanDatabase database;
  database.add_job(1);
  const auto queue = make_oban_queue(database.options());
  ASSERT_EQ(ask(*queue, 1).kind, Kind::kNotExecuting);
  PrivatePostgres::shared().query("postgres",
                                  fmt::format("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE "
                                              "datname = '{}'",
                                              PrivatePostgres::database_of(database.url())));
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kNotExecuting);
}

TEST_F(ObanPostgres, AServerThatIsAwayOrFrozenIsUnavailableAndComesBack) {
  PrivatePostgres postgres;
  QueueOptions options;
  options.url = postgres.create_database();
  options.deadline = 3s;  // a busy machine answers within it
  postgres.query(options.url,
                 "CREATE TABLE oban_jobs (id bigint, state text, attempt int, errors jsonb[], inserted_at timestamp, "
                 "scheduled_at timestamp, attempted_at timestamp, completed_at timestamp, cancelled_at timestamp, "
                 "discarded_at timestamp); INSERT INTO oban_jobs (id, state, attempt) VALUES (1, 'executing', 2)");
  const auto queue = make_oban_queue(options);
  const JobAnswer job = ask(*queue, 1);
  ASSERT_EQ(job.kind, Kind::kWorking) << job.detail;
  EXPECT_FALSE(job.changed_ago) << "no time says when it changed";

  postgres.freeze();
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kCannotTell);
  postgres.thaw();
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kWorking);

  postgres.stop();
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kCannotTell);
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kCannotTell);
  postgres.start();
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kWorking);
}

TEST_F(ObanPostgres, NoPasswordIsInAnyAnswer) {
  QueueOptions options;
  options.url = "postgresql://worker:s3cr3t-word@127.0.0.1:1/jobs?password=s3cr3t-too";
  const auto queue = make_oban_queue(options);
  const JobAnswer job = ask(*queue, 1);
  EXPECT_EQ(job.kind, Kind::kCannotTell);
  EXPECT_THAT(job.detail, Not(HasSubstr("s3cr3t")));
  EXPECT_FALSE(job.detail.empty());
  EXPECT_THAT(queue->check().error().message, Not(HasSubstr("s3cr3t")));
}

TEST(ObanQueue, WhatIsNoUrlOrNoTableIsUnavailable) {
  QueueOptions options;
  options.url = "mysql://x";
  EXPECT_EQ(ask(*make_oban_queue(options), 1).kind, Kind::kCannotTell);
  options.url = "postgresql://127.0.0.1:1/x";
  for (const char* table : {"", ".", "a.", ".b", "a.b.c"}) {
    options.table = table;
    const JobAnswer job = ask(*make_oban_queue(options), 1);
    EXPECT_EQ(job.kind, Kind::kCannotTell);
    EXPECT_THAT(job.detail, HasSubstr("SCHEMA.TABLE")) << table;
  }
}

}  // namespace run_recorder::testing
