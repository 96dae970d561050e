// Which reports of passes go.
#include "retention/pass_limits.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

AgedPass pass(std::string trigger, bool marked = false) {
  return {.pass_id = "p", .trigger = std::move(trigger), .age = 1h, .bytes = 100, .marked = marked};
}

TEST(PassLimits, WhatIsTooOldGoesWhateverItMarked) {
  PassLimits limits(24h);
  for (const bool marked : {false, true}) {
    AgedPass old = pass("request", marked);
    old.age = 24h;
    EXPECT_TRUE(limits.goes(old));
    old.age = 24h - 1ms;
    EXPECT_FALSE(limits.goes(old));
  }
}

TEST(PassLimits, ZeroKeepsWhateverTheAge) {
  PassLimits limits(0s);
  AgedPass old = pass("request");
  old.age = std::chrono::hours(24 * 36'500);
  EXPECT_FALSE(limits.goes(old));
}

TEST(PassLimits, TheNewestOfEachTriggerStay) {
  PassLimits limits(24h);
  for (std::size_t i = 0; i < PassLimits::kOthers.passes; ++i) ASSERT_FALSE(limits.goes(pass("interval")));
  EXPECT_TRUE(limits.goes(pass("interval")));
  EXPECT_FALSE(limits.goes(pass("request"))) << "the others do not push it out";
  EXPECT_FALSE(limits.goes(pass("interval", true))) << "it marked something";
}

TEST(PassLimits, WhatMarkedSomethingIsBoundedToo) {
  PassLimits limits(0s);
  for (std::size_t i = 0; i < PassLimits::kMarked.passes; ++i) ASSERT_FALSE(limits.goes(pass("interval", true)));
  EXPECT_TRUE(limits.goes(pass("request", true)));
  EXPECT_FALSE(limits.goes(pass("request")));
}

TEST(PassLimits, TheirBytesAreBoundedButTheNewestStays) {
  PassLimits limits(24h);
  AgedPass large = pass("interval");
  large.bytes = 2 * PassLimits::kOthers.bytes;
  EXPECT_FALSE(limits.goes(large));
  EXPECT_TRUE(limits.goes(pass("interval")));
  large.trigger = "boot";
  large.bytes = PassLimits::kOthers.bytes / 2;
  EXPECT_FALSE(limits.goes(large));
  EXPECT_FALSE(limits.goes(large));
  EXPECT_TRUE(limits.goes(pass("boot")));
}

}  // namespace
}  // namespace run_recorder
