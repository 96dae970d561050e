// changeset: what it refuses, and that it changes what it is given and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "run_fixture.h"

namespace run_recorder::testing {
namespace {

using ::testing::HasSubstr;

RunAttributes named() {
  RunAttributes attributes;
  attributes.run_id = "r1";
  attributes.council = "demo";
  return attributes;
}

void expect_refused(const Result<Row>& made, const std::string& field) {
  ASSERT_FALSE(made) << field;
  EXPECT_EQ(made.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(made.error().message, HasSubstr(field + ": "));
}

template <class Set>
Result<Row> with(Set set) {
  RunAttributes attributes = named();
  set(attributes);
  return changeset(Row{}, attributes);
}

TEST(Changeset, MakesARowOfItsAttributes) {
  RunAttributes attributes = named();
  attributes.status = Status::kFailed;
  attributes.attempt = 2;
  attributes.parent_attempt_run_id = "r0";
  attributes.oban_job_id = 9;
  attributes.oban_job_state_at_finalize = "executing";
  attributes.input = "1";
  attributes.result = "[]";
  attributes.error = R"({"errors":[]})";
  attributes.started_at = kBegan;
  attributes.finalized_at = kEnded;
  const Row run = changeset(Row{}, attributes).value();
  EXPECT_EQ(run.run_id, "r1");
  EXPECT_EQ(run.council, "demo");
  EXPECT_EQ(run.status, Status::kFailed);
  EXPECT_EQ(run.attempt, 2);
  EXPECT_EQ(run.parent_attempt_run_id, "r0");
  EXPECT_EQ(run.oban_job_id, 9);
  EXPECT_EQ(run.oban_job_state_at_finalize, "executing");
  EXPECT_EQ(run.input, R"({"value":1})");
  EXPECT_EQ(run.result, R"({"value":[]})");
  EXPECT_EQ(run.error, R"({"errors":[]})");
  EXPECT_EQ(run.started_at, kBegan);
  EXPECT_EQ(run.finalized_at, kEnded);
}

TEST(Changeset, LeavesWhatItIsNotGiven) {
  Row row = row_of(Status::kStuck);
  row.input = R"({"a":1})";
  const Row run = changeset(row, RunAttributes{}).value();
  EXPECT_EQ(run.council, row.council);
  EXPECT_EQ(run.status, row.status);
  EXPECT_EQ(run.input, row.input);
  EXPECT_EQ(run.error, row.error);
  EXPECT_EQ(run.finalized_at, row.finalized_at);
  EXPECT_EQ(run.last_seq, row.last_seq);
  EXPECT_FALSE(run.attempt_given);
}

TEST(Changeset, RequiresARunId) {
  RunAttributes attributes;
  attributes.council = "demo";
  expect_refused(changeset(Row{}, attributes), "run_id");
}

TEST(Changeset, RefusesNamesThatAreEmptyOrTooLong) {
  for (const std::string& bad : {std::string(), std::string(256, 'x')}) {
    expect_refused(with([&](RunAttributes& a) { a.run_id = bad; }), "run_id");
    expect_refused(with([&](RunAttributes& a) { a.council = bad; }), "council");
    expect_refused(with([&](RunAttributes& a) { a.parent_attempt_run_id = bad; }), "parent_attempt_run_id");
  }
  const std::string longest(255, 'x');
  EXPECT_TRUE(with([&](RunAttributes& a) { a.run_id = a.council = a.parent_attempt_run_id = longest; }));
}

TEST(Changeset, RefusesNumbersOutOfRange) {
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 31}) {
    expect_refused(with([&](RunAttributes& a) { a.attempt = bad; }), "attempt");
  }
  for (const std::int64_t bad : {std::int64_t{0}, std::numeric_limits<std::int64_t>::min()}) {
    expect_refused(with([&](RunAttributes& a) { a.oban_job_id = bad; }), "oban_job_id");
  }
  EXPECT_EQ(with([](RunAttributes& a) { a.attempt = 2'147'483'647; }).value().attempt, 2'147'483'647);
  EXPECT_TRUE(with([](RunAttributes& a) { a.oban_job_id = std::numeric_limits<std::int64_t>::max(); }));
}

TEST(Changeset, RefusesAnErrorThatIsNoObject) {
  expect_refused(with([](RunAttributes& a) { a.error = R"(["boom"])"; }), "error");
  expect_refused(with([](RunAttributes& a) { a.error = "null"; }), "error");
}

TEST(Changeset, NeverLeavesAFinishedStatus) {
  for (const Status finished : {Status::kCompleted, Status::kFailed, Status::kCancelled}) {
    for (const Status other : {Status::kQueued, Status::kRunning, Status::kCompleted, Status::kFailed,
                               Status::kCancelled, Status::kStuck}) {
      RunAttributes attributes;
      attributes.status = other;
      const auto made = changeset(row_of(finished), attributes);
      if (other == finished) {
        EXPECT_TRUE(made);
      } else {
        expect_refused(made, "status");
      }
    }
  }
}

TEST(Changeset, LeavesStuckInAnyDirection) {
  for (const Status other : {Status::kRunning, Status::kCompleted, Status::kFailed, Status::kCancelled}) {
    RunAttributes attributes;
    attributes.status = other;
    EXPECT_TRUE(changeset(row_of(Status::kStuck), attributes));
  }
}

}  // namespace
}  // namespace run_recorder::testing
