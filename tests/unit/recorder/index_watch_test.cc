// Indexes that are dropped from a real PostgreSQL: noticed, said, and built again.
#include "recorder/index_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recorder_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

const IndexWatch::Clock::time_point kNow{};

class IndexWatchTest : public RecorderFixture {
 protected:
  void SetUp() override {
    RecorderFixture::SetUp();
    if (IsSkipped()) return;
    store_ = open_new_store();
    watch(false);
  }
  void watch(bool builds) {
    watch_ = std::make_unique<IndexWatch>(store_options(), builds, [this] { return utc_; });
  }

  std::unique_ptr<Store> store_;
  Timestamp utc_ = parse_rfc3339("2026-03-01T12:00:00Z").value();
  std::unique_ptr<IndexWatch> watch_;
};

TEST_P(IndexWatchTest, WaitsForNothingWhereAllStand) {
  ASSERT_TRUE(watch_->check(*store_, kNow));
  EXPECT_FALSE(watch_->waiting_for());
  EXPECT_TRUE(watch_->events_unique());
  EXPECT_FALSE(watch_->due(kNow + 29s));
  EXPECT_TRUE(watch_->due(kNow + 30s));
}

TEST_P(IndexWatchTest, SaysWhatIsMissingAndSinceWhen) {
  execute("DROP INDEX council_ex_runs_inserted");
  ASSERT_TRUE(watch_->check(*store_, kNow));
  const Timestamp since = utc_;
  utc_ += 60s;
  ASSERT_TRUE(watch_->check(*store_, kNow + 60s));
  ASSERT_TRUE(watch_->waiting_for());
  EXPECT_THAT(watch_->waiting_for()->indexes, HasSubstr("council_ex_runs_inserted"));
  EXPECT_EQ(watch_->waiting_for()->since, since);
  EXPECT_TRUE(watch_->events_unique());
  EXPECT_TRUE(watch_->due(kNow + 61s)) << "soon, while one is missing";
}

TEST_P(IndexWatchTest, RefusesAHistoryWithoutItsUniqueIndexWhereItBuildsNone) {
  execute("DROP INDEX council_ex_run_events_event");
  const auto checked = watch_->check(*store_, kNow);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(checked.error().message, HasSubstr("CREATE UNIQUE INDEX"));
}

TEST_P(IndexWatchTest, BuildsWhatIsMissing) {
  watch(true);
  execute("DROP INDEX council_ex_run_events_event");
  ASSERT_TRUE(watch_->check(*store_, kNow));
  EXPECT_FALSE(watch_->events_unique());
  ASSERT_TRUE(watch_->waiting_for());
  EXPECT_FALSE(watch_->waiting_for()->events_unique);
  EXPECT_TRUE(eventually([this] { return watch_->check(*store_, kNow) && !watch_->waiting_for(); }));
  EXPECT_TRUE(watch_->events_unique());
}

INSTANTIATE_TEST_SUITE_P(Recorder, IndexWatchTest, ::testing::Values(DatabaseKind::kPostgres), name_of);

}  // namespace
}  // namespace run_recorder::testing
