#include "process/gone_since.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

constexpr GoneSince::Clock::time_point kFirst{1'000s};

TEST(GoneSince, IsTheFirstTime) {
  GoneSince gone;
  EXPECT_EQ(gone.note("a", kFirst), kFirst);
  EXPECT_EQ(gone.note("a", kFirst + 5s), kFirst);
}

TEST(GoneSince, ForgetsWhatWasSeenLongestAgo) {
  GoneSince gone(2);
  gone.note("a", kFirst);
  gone.note("b", kFirst + 1s);
  gone.note("c", kFirst + 2s);
  EXPECT_EQ(gone.note("b", kFirst + 9s), kFirst + 1s);
  EXPECT_EQ(gone.note("a", kFirst + 9s), kFirst + 9s);
}

}  // namespace
}  // namespace run_recorder
