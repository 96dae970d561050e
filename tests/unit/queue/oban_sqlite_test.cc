// Oban's jobs in SQLite, as its Lite engine keeps them: everything is text, times in several precisions.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "database/sqlite.h"
#include "queue/queue.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {

namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;
using Kind = JobAnswer::Kind;

constexpr const char* kTable =
    "CREATE TABLE oban_jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL DEFAULT 'available', queue "
    "TEXT NOT "
    "NULL DEFAULT 'default', worker TEXT NOT NULL DEFAULT 'W', args JSON NOT NULL DEFAULT '{}', meta JSON NOT NULL "
    "DEFAULT "
    "'{}', tags JSON NOT NULL DEFAULT '[]', errors JSON NOT NULL DEFAULT '[]', attempt INTEGER NOT NULL DEFAULT 0, "
    "max_attempts INTEGER NOT NULL DEFAULT 20, priority INTEGER NOT NULL DEFAULT 0, inserted_at TEXT NOT NULL "
    "DEFAULT "
    "'2020-01-01T00:00:00', scheduled_at TEXT NOT NULL DEFAULT '2020-01-01T00:00:00', attempted_at TEXT, "
    "attempted_by JSON "
    "NOT NULL DEFAULT '[]', cancelled_at TEXT, completed_at TEXT, discarded_at TEXT)";

class ObanSqlite : public ::testing::Test {
 protected:
  ObanSqlite() { database().execute(kTable).value(); }

  SqliteConnection& database() {
    if (!connection_) connection_ = SqliteConnection::open({.path = path(), .create = true}).value();
    connection_->begin_call();
    return *connection_;
  }
  void add_job(std::int64_t id, const std::string& columns = "", const std::string& values = "") {
    const char* comma = columns.empty() ? "" : ", ";
    database()
        .execute(fmt::format("INSERT INTO oban_jobs (id{0}{1}) VALUES ({2}{0}{3})", comma, columns, id, values))
        .value();
  }
  std::string path() const { return folder_.file("oban.db"); }
  QueueOptions options() const {
    QueueOptions options;
    options.url = "sqlite:" + path();
    return options;
  }

  TempFolder folder_;
  std::unique_ptr<SqliteConnection> connection_;
};

JobAnswer ask(JobQueue& queue, std::int64_t id) {
  const JobAsked asked{.job_id = std::to_string(id)};
  return queue.look_up({&asked, 1}).at(0);
}

std::string ago(std::chrono::milliseconds age) {
  return format_rfc3339(now_utc() - age);
}

void expect_age(const JobAnswer& job, std::chrono::milliseconds age) {
  ASSERT_FALSE(job.state.empty()) << job.detail;
  ASSERT_TRUE(job.changed_ago);
  EXPECT_GE(*job.changed_ago, age - 10s) << "less what clocks may differ";
  EXPECT_LE(*job.changed_ago, age + 10min);
}

}  // namespace

TEST_F(ObanSqlite, OnlyTheShortestFormOfANumberIsAnId) {
  add_job(7);
  const auto queue = make_oban_queue(options());
  for (const char* id : {"07", "+7", "0", "-7", "7.0", "seven", ""}) {
    const JobAsked asked{.job_id = id};
    const JobAnswer answer = queue->look_up({&asked, 1}).at(0);
    EXPECT_EQ(answer.kind, Kind::kCannotTell) << id;
    EXPECT_THAT(answer.detail, HasSubstr("invalid job id")) << id;
  }
}

TEST_F(ObanSqlite, JobsAreFoundWithStateAndAttempt) {
  add_job(1, "state, attempt", "'executing', 3");
  add_job(2, "state, attempt", "'suspended', 0");
  const auto queue = make_oban_queue(options());
  EXPECT_TRUE(queue->check());
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kWorking) << ask(*queue, 1).detail;
  EXPECT_EQ(ask(*queue, 1).state, "executing");
  EXPECT_EQ(ask(*queue, 1).attempt, 3);
  EXPECT_EQ(ask(*queue, 2).state, "suspended");
  EXPECT_EQ(ask(*queue, 9'223'372'036'854'775'807).kind, Kind::kAbsent);
}

TEST_F(ObanSqlite, TimesOfEveryPrecisionAreUnderstood) {
  const std::string two_hours = ago(2h);
  std::string spaced = two_hours;
  spaced[10] = ' ';
  std::int64_t id = 1;
  for (const std::string& time :
       {two_hours, two_hours.substr(0, 26), two_hours.substr(0, 23), two_hours.substr(0, 19),
        two_hours.substr(0, 19) + "Z", spaced, spaced.substr(0, 19)}) {
    add_job(id, "attempted_at", fmt::format("'{}'", time));
    SCOPED_TRACE(time);
    expect_age(ask(*make_oban_queue(options()), id++), 2h);
  }
}

TEST_F(ObanSqlite, TheClaimsTimeDecidesInEveryPrecision) {
  std::int64_t id = 1;
  for (const char* claimed : {"2026-03-01T12:00:00", "2026-03-01T12:00:00Z", "2026-03-01 12:00:00.000",
                              "2026-03-01T12:00:00.000000", "2026-03-01T12:00:00.000000Z"}) {
    add_job(id, "state, attempt, attempted_at", fmt::format("'executing', 1, '{}'", claimed));
    const auto kind = [&](const char* started) {
      const JobAsked asked{.job_id = std::to_string(id), .attempt = 1, .started_at = parse_rfc3339(started).value()};
      return make_oban_queue(options())->look_up({&asked, 1}).at(0).kind;
    };
    EXPECT_EQ(kind("2026-03-01T11:59:50Z"), Kind::kWorking) << claimed;
    EXPECT_EQ(kind("2026-03-01T11:59:49.999Z"), Kind::kOtherExecution) << claimed;
    EXPECT_EQ(kind("2019-01-01T00:00:00Z"), Kind::kAbsent) << claimed << ": inserted in 2020";
    ++id;
  }
}

TEST_F(ObanSqlite, TheAgeIsSinceTheLatestOfAllTimes) {
  std::int64_t id = 1;
  for (const char* column :
       {"inserted_at", "attempted_at", "completed_at", "cancelled_at", "discarded_at", "scheduled_at"}) {
    add_job(id, column, fmt::format("'{}'", ago(2h)));
    SCOPED_TRACE(column);
    expect_age(ask(*make_oban_queue(options()), id++), 2h);
  }
  add_job(id, "attempted_at, scheduled_at", fmt::format("'{}', '{}'", ago(3h), ago(-1h)));
  expect_age(ask(*make_oban_queue(options()), id), 3h);
}

TEST_F(ObanSqlite, TheAgeCountsTheLastErrorAndIgnoresMalformedOnes) {
  add_job(1, "attempted_at, errors",
          fmt::format(R"('{}', '[{{"at":"{}"}},{{"at":"{}","attempt":2}}]')", ago(9h), ago(5h), ago(2h)));
  expect_age(ask(*make_oban_queue(options()), 1), 2h);
  std::int64_t id = 2;
  for (const char* garbage : {"not json", "", "[]", "{}", "7", "null", "[7]", "[{\"at\":17}]", "[{\"at\":\"soon\"}]",
                              "[{\"at\":\"9999-01-01T00:00:00Z\"}]", "[{\"at\":null}]", "[{\"at\":[]}]"}) {
    add_job(id, "attempted_at, errors", fmt::format("'{}', '{}'", ago(9h), garbage));
    SCOPED_TRACE(garbage);
    expect_age(ask(*make_oban_queue(options()), id++), 9h);
  }
  add_job(id, "attempted_at, errors", fmt::format("'{}', X'FF00'", ago(9h)));
  expect_age(ask(*make_oban_queue(options()), id), 9h);
}

TEST_F(ObanSqlite, IgnoresMalformedTimes) {
  add_job(1, "inserted_at, scheduled_at, attempted_at", "'', 'soon', 17");
  const JobAnswer job = ask(*make_oban_queue(options()), 1);
  EXPECT_EQ(job.kind, Kind::kNotExecuting);
  EXPECT_FALSE(job.changed_ago);
}

TEST_F(ObanSqlite, LooksUpManyIdsAtOnce) {
  database()
      .execute(
          "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000) INSERT INTO oban_jobs "
          "(id) "
          "SELECT i FROM n")
      .value();
  std::vector<JobAsked> ids;
  for (int id = 1; id <= 12'000; ++id) ids.push_back({.job_id = std::to_string(id)});
  const auto answers = make_oban_queue(options())->look_up(ids);
  ASSERT_EQ(answers.size(), ids.size());
  EXPECT_EQ(answers.at(5'999).kind, Kind::kNotExecuting);
  EXPECT_EQ(answers.at(6'000).kind, Kind::kAbsent);
}

TEST_F(ObanSqlite, ReadsWhileTheApplicationWrites) {
  add_job(1, "state", "'executing'");
  const auto queue = make_oban_queue(options());
  ASSERT_EQ(ask(*queue, 1).state, "executing");
  auto writing = SqliteTransaction::begin(database(), SqliteTransaction::Mode::kWrite);
  ASSERT_TRUE(writing);
  ASSERT_TRUE(database().execute("UPDATE oban_jobs SET state = 'completed'"));
  EXPECT_EQ(ask(*queue, 1).state, "executing");
  ASSERT_TRUE(writing->commit());
  EXPECT_EQ(ask(*queue, 1).state, "completed");
}

TEST_F(ObanSqlite, AMissingFileOrTableIsUnavailableUntilItIsThere) {
  QueueOptions elsewhere = options();
  elsewhere.url = "sqlite:" + folder_.file("later.db");
  const auto queue = make_oban_queue(elsewhere);
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kCannotTell);
  EXPECT_FALSE(std::filesystem::exists(folder_.file("later.db"))) << "a look makes no file";
  auto made = SqliteConnection::open({.path = folder_.file("later.db"), .create = true}).value();
  const JobAnswer no_table = ask(*queue, 1);
  EXPECT_EQ(no_table.kind, Kind::kCannotTell);
  EXPECT_THAT(no_table.detail, HasSubstr("oban_jobs"));
  EXPECT_FALSE(queue->check());
  ASSERT_TRUE(made->execute(kTable));
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kAbsent);
  EXPECT_TRUE(queue->check());
}

TEST_F(ObanSqlite, AFileThatIsNoDatabaseIsUnavailable) {
  QueueOptions elsewhere = options();
  elsewhere.url = "sqlite:" + folder_.write("text.db", std::string(5'000, 'x'));
  const JobAnswer job = ask(*make_oban_queue(elsewhere), 1);
  EXPECT_EQ(job.kind, Kind::kCannotTell);
  EXPECT_THAT(job.detail, HasSubstr("not a SQLite database"));
}

TEST_F(ObanSqlite, AFileThatWasReplacedIsReadAnew) {
  add_job(1, "state", "'executing'");
  const auto queue = make_oban_queue(options());
  ASSERT_EQ(ask(*queue, 1).state, "executing");
  connection_.reset();
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path() + suffix);
  ASSERT_TRUE(database().execute(kTable));
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kCannotTell);
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kAbsent);
}

TEST_F(ObanSqlite, ADroppedTableIsUnavailable) {
  const auto queue = make_oban_queue(options());
  ASSERT_EQ(ask(*queue, 1).kind, Kind::kAbsent);
  ASSERT_TRUE(database().execute("DROP TABLE oban_jobs"));
  EXPECT_EQ(ask(*queue, 1).kind, Kind::kCannotTell);
}

}  // namespace run_recorder::testing
