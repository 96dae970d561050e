// When the database's clock is believed.
#include "base/clock_watch.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

struct Clocks {
  ClockWatch watch;
  Timestamp database{};
  ClockWatch::Steady::time_point here{};

  bool after(std::chrono::seconds here_passed, std::chrono::seconds database_passed) {
    here += here_passed;
    database += database_passed;
    return watch.steady_for(30min, database, here);
  }
};

TEST(ClockWatch, IsBelievedOnceItWasWatchedForSoLong) {
  Clocks clocks;
  EXPECT_FALSE(clocks.after(0s, 0s));
  EXPECT_FALSE(clocks.after(29min, 29min));
  EXPECT_TRUE(clocks.after(1min, 1min));
}

TEST(ClockWatch, ALeapAheadBeginsAnew) {
  Clocks clocks;
  clocks.after(0s, 0s);
  EXPECT_TRUE(clocks.after(60min, 62min)) << "clocks differ a little";
  EXPECT_FALSE(clocks.after(60min, 24h * 500));
  EXPECT_FALSE(clocks.after(29min, 29min));
  EXPECT_TRUE(clocks.after(1min, 1min));
}

TEST(ClockWatch, AClockThatIsSetBackMakesNobodyOld) {
  Clocks clocks;
  clocks.after(0s, 0s);
  EXPECT_TRUE(clocks.after(60min, -24h * 500));
  EXPECT_FALSE(clocks.after(60min, 24h * 500)) << "and forth again";
}

}  // namespace
}  // namespace run_recorder
