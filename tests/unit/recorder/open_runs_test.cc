#include "recorder/open_runs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "base/time.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;

using Row = run_recorder::Run;

const Timestamp kStart = parse_rfc3339("2026-03-01T12:00:00Z").value();

Row open_row(const std::string& run_id, std::int64_t last_seq = 1, const std::string& council = "demo") {
  Row row;
  row.run_id = run_id;
  row.council = council;
  row.status = Status::kRunning;
  row.started_at = kStart;
  row.last_seq = last_seq;
  return row;
}

TEST(OpenRuns, FindsWhatWasPutLast) {
  OpenRuns open(100);
  EXPECT_FALSE(open.find("a"));
  open.put(open_row("a"));
  Row row = open_row("a", 7, "other");
  row.started_at = kStart + 1h + 123'456us;
  row.job_id = "9";
  open.put(row);
  const auto found = open.find("a");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->council, "other");
  EXPECT_EQ(found->last_seq, 7);
  EXPECT_EQ(found->started_at, kStart + 1h + 120ms);
  EXPECT_TRUE(found->has_job);
  EXPECT_EQ(open.size(), 1U);
  open.erase("a");
  open.erase("a");
  EXPECT_FALSE(open.find("a"));
  EXPECT_EQ(open.size(), 0U);
}

TEST(OpenRuns, ForgetsARowThatIsNoPlainRunningOne) {
  const auto forgets = [](const auto& change) {
    OpenRuns open(100);
    Row row = open_row("a");
    open.put(row);
    change(row);
    open.put(row);
    return !open.find("a") && open.size() == 0;
  };
  EXPECT_TRUE(forgets([](Row& row) { row.status = Status::kCompleted; }));
  EXPECT_TRUE(forgets([](Row& row) { row.status = Status::kStuck; }));
  EXPECT_TRUE(forgets([](Row& row) { row.status = Status::kQueued; }));
  EXPECT_TRUE(forgets([](Row& row) { row.started_at.reset(); }));
  EXPECT_TRUE(forgets([](Row& row) { *row.started_at += 24h * 400; })) << "farther away than can be told";
  EXPECT_TRUE(forgets([](Row& row) { *row.started_at -= 24h * 400; }));
  EXPECT_TRUE(forgets([](Row& row) { row.stuck_pass = "p"; }));
  EXPECT_TRUE(forgets([](Row& row) { row.result = "{}"; }));
  EXPECT_TRUE(forgets([](Row& row) { row.error.reset(), row.error = "{}"; }));
  EXPECT_TRUE(forgets([](Row& row) { row.finalized_at = kStart; }));
  EXPECT_TRUE(forgets([](Row& row) { row.oban_job_state_at_finalize = "completed"; }));
  EXPECT_TRUE(forgets([](Row& row) { row.last_seq = 65'536; }));
  EXPECT_TRUE(forgets([](Row& row) { row.last_seq = 0; })) << "a row that was taken over has no version";
  EXPECT_FALSE(forgets([](Row& row) { row.last_seq = 65'535; }));
  EXPECT_FALSE(forgets([](Row& row) { row.usage = "{}"; }));
}

TEST(OpenRuns, FindsEachOfManyAndNoneThatIsGone) {
  constexpr int kRuns = 100'000;
  OpenRuns open(kRuns);
  const auto id = [](int i) { return fmt::format("run-{}", i); };
  for (int i = 0; i < kRuns; ++i) open.put(open_row(id(i), i % 1'000 + 1));
  EXPECT_EQ(open.size(), static_cast<std::size_t>(kRuns));
  for (int i = 0; i < kRuns; i += 2) open.erase(id(i));
  EXPECT_EQ(open.size(), static_cast<std::size_t>(kRuns / 2));
  for (int i = 0; i < kRuns; ++i) {
    const auto found = open.find(id(i));
    ASSERT_EQ(found.has_value(), i % 2 == 1) << i;
    if (found) {
      ASSERT_EQ(found->last_seq, i % 1'000 + 1);
    }
  }
  open.clear();
  EXPECT_EQ(open.size(), 0U);
  EXPECT_FALSE(open.find(id(1)));
}

TEST(OpenRuns, TakesNoMoreThanItMayAndTheNewOnesInPlaceOfOthers) {
  OpenRuns open(20'000);
  for (int i = 0; i < 100'000; ++i) open.put(open_row(fmt::format("run-{}", i)));
  EXPECT_EQ(open.size(), 20'000U);
  int newest = 0;
  for (int i = 90'000; i < 100'000; ++i) newest += open.find(fmt::format("run-{}", i)) ? 1 : 0;
  EXPECT_GT(newest, 5'000) << "of the 10,000 that were put last";
  OpenRuns none(0);
  none.put(open_row("a"));
  EXPECT_FALSE(none.find("a"));
}

TEST(OpenRuns, HasRoomForTheNamesOfCouncilsThatHaveRuns) {
  OpenRuns open(100'000);
  for (int i = 0; i < 4'096; ++i) open.put(open_row(fmt::format("run-{}", i), 1, fmt::format("council-{}", i)));
  EXPECT_TRUE(open.find("run-4095"));
  open.put(open_row("one-more", 1, "one more"));
  EXPECT_FALSE(open.find("one-more")) << "each of the names is in use";
  open.erase("run-17");
  open.put(open_row("one-more", 1, "one more"));
  ASSERT_TRUE(open.find("one-more"));
  EXPECT_EQ(open.find("one-more")->council, "one more");
  EXPECT_EQ(open.find("run-18")->council, "council-18");
  open.put(open_row("run-17", 1, "council-17"));
  EXPECT_FALSE(open.find("run-17"));
}

}  // namespace
}  // namespace run_recorder::testing
