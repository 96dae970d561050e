#include "recorder/database_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

TEST(Backoff, DoublesUpToItsLongestDelay) {
  Backoff backoff;
  EXPECT_EQ(backoff.delay(100), Backoff::kFirst);
  for (const int expected : {100, 200, 400, 800, 1'600, 3'200, 5'000, 5'000}) {
    backoff.failed();
    EXPECT_EQ(backoff.delay(100), milliseconds{expected});
  }
  for (int i = 0; i < 1'000; ++i) backoff.failed();
  EXPECT_EQ(backoff.delay(100), Backoff::kLongest);
  backoff.succeeded();
  EXPECT_EQ(backoff.delay(100), Backoff::kFirst);
}

TEST(Backoff, IsSpreadByAFifth) {
  Backoff backoff;
  EXPECT_EQ(backoff.delay(80), milliseconds{80});
  EXPECT_EQ(backoff.delay(120), milliseconds{120});
}

TEST(Backoff, IsOverOnceAfterALostConnection) {
  Backoff backoff;
  EXPECT_TRUE(backoff.over());
  backoff.failed();
  EXPECT_TRUE(backoff.over()) << "made again at once";
  backoff.failed();
  EXPECT_FALSE(backoff.over()) << "but not over and over";
  backoff.tries_less();
  EXPECT_TRUE(backoff.over());
  backoff.in_doubt();
  EXPECT_FALSE(backoff.over());
  EXPECT_EQ(backoff.delay(100), milliseconds{800});
}

class DatabaseHealthTest : public ::testing::Test {
 protected:
  static Error away() { return Error{ErrorKind::kUnavailable, "connection refused"}; }

  std::chrono::steady_clock::time_point steady_{std::chrono::hours{1}};
  Timestamp utc_{std::chrono::hours{1}};
  DatabaseHealth health_{"sqlite:x", [this] { return steady_; }, [this] { return utc_; }};
};

TEST_F(DatabaseHealthTest, IsUpFromItsFirstCommitAndWasNeverAway) {
  EXPECT_EQ(health_.state(), DatabaseState::kConnecting);
  EXPECT_FALSE(health_.status().since);
  health_.up();
  EXPECT_EQ(health_.state(), DatabaseState::kUp);
  EXPECT_EQ(health_.status().since, utc_);
  EXPECT_EQ(health_.status().reconnects, 0U);
  EXPECT_FALSE(health_.back_since());
}

TEST_F(DatabaseHealthTest, KeepsSinceWhenItIsAwayAndTheLatestReason) {
  health_.up();
  const Timestamp began = utc_ += std::chrono::seconds{5};
  health_.lost(away(), true);
  utc_ += std::chrono::seconds{5};
  health_.lost(Error{ErrorKind::kUnavailable, "timed out"}, false);
  EXPECT_EQ(health_.state(), DatabaseState::kAway);
  EXPECT_EQ(health_.status().since, began);
  EXPECT_EQ(health_.status().error, "timed out");
  EXPECT_EQ(health_.backoff().failures(), 2);
}

TEST_F(DatabaseHealthTest, ComesBackWithOneReconnect) {
  health_.up();
  health_.lost(away(), true);
  health_.lost(away(), false);
  steady_ += std::chrono::seconds{10};
  health_.up();
  EXPECT_EQ(health_.state(), DatabaseState::kUp);
  EXPECT_EQ(health_.status().error, "");
  EXPECT_EQ(health_.status().reconnects, 1U);
  EXPECT_EQ(health_.back_since(), steady_);
  EXPECT_EQ(health_.backoff().failures(), 0);
}

TEST_F(DatabaseHealthTest, TellsARefusalFromAnOutage) {
  for (const Error& error : {Error{ErrorKind::kRefused, "newer schema"}, Error{ErrorKind::kNotFound, "no tables"},
                             Error{ErrorKind::kUnavailable, "permission denied", "42501"}}) {
    health_.lost(away(), false);
    EXPECT_EQ(health_.state(), DatabaseState::kAway);
    health_.lost(error, false);
    EXPECT_EQ(health_.state(), DatabaseState::kRefused) << error.message;
  }
}

TEST_F(DatabaseHealthTest, LetsTheNextConnectionSayWhyAServerIsReadOnly) {
  health_.up();
  const Error read_only{ErrorKind::kUnavailable, "read-only transaction", "25006"};
  health_.lost(read_only, true);
  EXPECT_EQ(health_.state(), DatabaseState::kUp);
  EXPECT_EQ(health_.backoff().failures(), 1);
  health_.lost(read_only, true);
  EXPECT_EQ(health_.state(), DatabaseState::kAway);
}

TEST_F(DatabaseHealthTest, CountsErrorsBySqlstateOrKind) {
  health_.lost(away(), false);
  health_.count(Error{ErrorKind::kData, "duplicate key", "23505"});
  health_.count(Error{ErrorKind::kData, "duplicate key", "23505"});
  EXPECT_EQ(health_.status().errors.at("unavailable"), 1U);
  EXPECT_EQ(health_.status().errors.at("23505"), 2U);
}

TEST_F(DatabaseHealthTest, IsAwayWhileAnotherRecorderMayBeActive) {
  health_.up();
  health_.in_doubt("another one was seen");
  EXPECT_EQ(health_.state(), DatabaseState::kAway);
  EXPECT_THAT(health_.status().error, ::testing::StartsWith("another one was seen; "));
  health_.no_longer_in_doubt();
  health_.up();
  EXPECT_EQ(health_.state(), DatabaseState::kUp);
}

TEST(DatabaseStates, HaveWords) {
  EXPECT_EQ(to_string(DatabaseState::kConnecting), "connecting");
  EXPECT_EQ(to_string(DatabaseState::kUp), "up");
  EXPECT_EQ(to_string(DatabaseState::kAway), "away");
  EXPECT_EQ(to_string(DatabaseState::kRefused), "refused");
}

}  // namespace
}  // namespace run_recorder
