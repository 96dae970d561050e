// How SQLite reads the lists: by an index, and in its order.
#include "store/sqlite_list.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "database/sqlite.h"
#include "run/status.h"
#include "store/migrations.h"
#include "store/sqlite_rows.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {

namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SqliteListPlans : public ::testing::Test {
 protected:
  void SetUp() override {
    StoreOptions options;
    options.url = "sqlite:" + folder_.file("runs.db");
    ASSERT_TRUE(migrate(options, false));
    connection_ = SqliteConnection::open({.path = folder_.file("runs.db")}).value();
    connection_->begin_call();
  }

  // In SQLite's words, a line a step. What decides for a plan is not what the texts are.
  std::string plan(const std::string& sql) {
    auto statement = connection_->prepare("EXPLAIN QUERY PLAN " + with_prefix(sql, kDefaultTablePrefix));
    if (!statement) return statement.error().message;
    std::string lines;
    SqliteRows rows = statement->rows();
    while (rows.next().value()) lines += std::string(rows.text(3)) + "\n";
    return lines;
  }
  std::string plan_in_order(const RunFilter& filter, bool running_is_few = true) {
    return plan(sqlite_walk(sqlite_parts_in_order(filter, running_is_few), filter, PagePlace{"2026", "r"}).sql);
  }

  TempFolder folder_;
  std::unique_ptr<SqliteConnection> connection_;
};

RunFilter by(RunOrder order, std::vector<Status> statuses = {}) {
  RunFilter filter;
  filter.by = order;
  filter.statuses = std::move(statuses);
  return filter;
}

}  // namespace

TEST_F(SqliteListPlans, AWalkOverAllRowsReadsAnIndexInItsOrder) {
  for (const auto& [order, index] : {std::pair{RunOrder::kRecorded, "council_ex_runs_inserted"},
                                     std::pair{RunOrder::kStarted, "council_ex_runs_started"}}) {
    RunFilter filter = by(order);
    for (auto* pattern : {&filter.host, &filter.unit, &filter.os_user, &filter.council_glob}) *pattern = "a*";
    filter.job = filter.queue = filter.pass = filter.error_text = "x";
    filter.exit_status = 1;
    filter.longer_than = std::chrono::seconds(1);
    filter.since = filter.until = Timestamp{};
    EXPECT_THAT(plan_in_order(filter), HasSubstr(fmt::format("SEARCH r USING INDEX {} (", index)));
    EXPECT_THAT(plan_in_order(filter), Not(HasSubstr("TEMP B-TREE")));
    EXPECT_THAT(plan_in_order(by(order, {Status::kRunning, Status::kFailed}), false), HasSubstr(index));
  }
}

TEST_F(SqliteListPlans, RareStatusesAreReadEachInTheOrderOfTheirIndex) {
  for (const auto& [order, index] : {std::pair{RunOrder::kRecorded, "council_ex_runs_status ("},
                                     std::pair{RunOrder::kStarted, "council_ex_runs_status_started ("}}) {
    for (const auto& statuses :
         {std::vector{Status::kCancelled}, std::vector{Status::kQueued, Status::kFailed, Status::kStuck}}) {
      EXPECT_THAT(plan_in_order(by(order, statuses)), HasSubstr(fmt::format("INDEX {}status=?", index)));
      EXPECT_THAT(plan_in_order(by(order, statuses)), Not(HasSubstr("TEMP B-TREE")));
    }
  }
}

TEST_F(SqliteListPlans, ANameIsReadInTheOrderOfItsIndexAndByAnotherTimeInTheOrderOfThat) {
  for (const auto& [order, index] : {std::pair{RunOrder::kRecorded, "council_ex_runs_council (council=? AND "},
                                     std::pair{RunOrder::kStarted, "council_ex_runs_started"}}) {
    for (const auto& statuses : {std::vector<Status>{}, std::vector{Status::kCompleted, Status::kFailed}}) {
      RunFilter filter = by(order, statuses);
      filter.council = "x";
      EXPECT_THAT(plan_in_order(filter), HasSubstr(fmt::format("INDEX {}", index)));
      EXPECT_THAT(plan_in_order(filter), Not(HasSubstr("TEMP B-TREE")));
    }
  }
}

TEST_F(SqliteListPlans, AChainLooksAtItsOwnRowsHoweverManyThereAre) {
  for (const char* sql : {"ANALYZE",
                          "INSERT INTO sqlite_stat1 VALUES ('council_ex_runs', 'sqlite_autoindex_council_ex_runs_1', "
                          "'1000000 1'), ('council_ex_runs', 'council_ex_runs_parent', '800 1')",
                          "ANALYZE sqlite_schema"}) {
    ASSERT_TRUE(connection_->execute(sql)) << sql;
  }
  EXPECT_THAT(plan(std::string(kChainIds)), HasSubstr("council_ex_runs_parent (parent_attempt_run_id=?)"));
  EXPECT_THAT(plan(std::string(kChainIds)), Not(AnyOf(HasSubstr("BLOOM"), HasSubstr("SCAN r"))));
}

TEST_F(SqliteListPlans, WhatIsFewIsFoundByAnIndex) {
  RunFilter filter;
  filter.id_prefix = "a";
  filter.oban_job_id = 1;
  filter.job = "x";
  filter.pass = "p";
  filter.council = "c";
  const std::vector<std::string> indexes{"sqlite_autoindex_council_ex_runs_1", "council_ex_runs_job (",
                                         "council_ex_runs_job_id (", "council_ex_run_events_pass (",
                                         "council_ex_runs_council ("};
  const auto accesses = sqlite_accesses(filter);
  ASSERT_EQ(accesses.size(), indexes.size());
  for (std::size_t i = 0; i < accesses.size(); ++i) {
    EXPECT_THAT(plan("SELECT * FROM " + accesses[i].from), HasSubstr(indexes[i]));
    EXPECT_THAT(plan("SELECT * FROM " + accesses[i].from), Not(HasSubstr("SCAN council_ex")));
  }
  EXPECT_THAT(plan("SELECT * FROM " + sqlite_running_rows().from), HasSubstr("council_ex_runs_running"));
}

}  // namespace run_recorder::testing
