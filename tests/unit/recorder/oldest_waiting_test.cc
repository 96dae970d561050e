#include "recorder/oldest_waiting.h"

#include <gtest/gtest.h>

#include <map>

namespace run_recorder {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class OldestWaitingTest : public ::testing::Test {
 protected:
  static SpoolUsage usage(std::uint64_t released, std::uint64_t last) {
    SpoolUsage usage;
    usage.released_seq = released;
    usage.last_seq = last;
    return usage;
  }
  static Timestamp at(int second) { return Timestamp{hours{1}} + seconds{second}; }
  void check(std::uint64_t released, std::uint64_t last) { oldest_.check(usage(released, last), now_); }
  std::optional<Timestamp> since(std::uint64_t released, std::uint64_t last) const {
    return oldest_.since(usage(released, last), at(1'000));
  }

  OldestWaiting::Clock::time_point now_{hours{1}};
  int reads_ = 0;
  bool readable_ = true;
  OldestWaiting oldest_{[this](std::uint64_t seq) {
    ++reads_;
    return readable_ ? std::optional(at(static_cast<int>(seq))) : std::nullopt;
  }};
};

TEST_F(OldestWaitingTest, NothingWaitsWhereAllIsApplied) {
  check(5, 5);
  EXPECT_FALSE(since(5, 5));
  EXPECT_EQ(reads_, 0);
}

TEST_F(OldestWaitingTest, ReadsOnlyWhatWaitedBefore) {
  check(5, 8);
  EXPECT_EQ(reads_, 0);
  EXPECT_EQ(since(5, 8), at(1'000)) << "it came since the last check";
  check(5, 8);
  EXPECT_EQ(since(5, 8), at(6));
  check(5, 9);
  EXPECT_EQ(reads_, 1) << "the same one is not read again";
}

TEST_F(OldestWaitingTest, ReadsAShrinkingBacklogSeldom) {
  check(5, 100);
  check(5, 100);
  now_ += seconds{1};
  check(20, 100);
  EXPECT_EQ(since(20, 100), at(6)) << "of one before it";
  EXPECT_EQ(reads_, 1);
  now_ += OldestWaiting::kReadEvery;
  check(20, 100);
  EXPECT_EQ(since(20, 100), at(21));
  EXPECT_EQ(reads_, 2);
}

TEST_F(OldestWaitingTest, SaysNowWhereNothingCanBeRead) {
  readable_ = false;
  check(5, 8);
  check(5, 8);
  EXPECT_EQ(since(5, 8), at(1'000));
}

}  // namespace
}  // namespace run_recorder
