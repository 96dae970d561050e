// Times as people write and read them, in a zone with summer time.
#include "cli/local_time.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <string>

namespace run_recorder {
namespace {

// The zone is the process's; each test sets it, and the next one finds it as it was.
class LocalTime : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* zone = std::getenv("TZ")) before_ = zone;
    set("CET-1CEST,M3.5.0,M10.5.0/3");
  }
  void TearDown() override { set(before_.c_str()); }
  static void set(const char* zone) {
    ::setenv("TZ", zone, 1);
    ::tzset();
  }
  static Timestamp at(const char* text) { return *parse_rfc3339(text); }
  // 10:04:05 in the zone.
  const Timestamp now_ = at("2026-07-02T08:04:05Z");

 private:
  std::string before_ = "UTC0";
};

TEST_F(LocalTime, ATimeWithoutAZoneIsLocal) {
  EXPECT_EQ(parse_moment("2026-07-01", now_), at("2026-06-30T22:00:00Z"));
  EXPECT_EQ(parse_moment("2026-01-01 10:00", now_), at("2026-01-01T09:00:00Z"));
  EXPECT_EQ(parse_moment("2026-01-01T10:00:05", now_), at("2026-01-01T09:00:05Z"));
  EXPECT_EQ(parse_moment("09:30", now_), at("2026-07-02T07:30:00Z"));
  EXPECT_EQ(parse_moment("23:59:59", now_), at("2026-07-02T21:59:59Z"));
}

TEST_F(LocalTime, AZoneMayBeNamed) {
  EXPECT_EQ(parse_moment("2026-01-01T00:00:00+01:00", now_), at("2025-12-31T23:00:00Z"));
  EXPECT_EQ(parse_moment("2026-07-01 10:00 UTC", now_), at("2026-07-01T10:00:00Z"));
  EXPECT_EQ(parse_moment("2026-07-01 UTC", now_), at("2026-07-01T00:00:00Z"));
}

TEST_F(LocalTime, WordsAreLocalDays) {
  EXPECT_EQ(parse_moment("now", now_), now_);
  EXPECT_EQ(parse_moment("today", now_), at("2026-07-01T22:00:00Z"));
  EXPECT_EQ(parse_moment("yesterday", now_), at("2026-06-30T22:00:00Z"));
  EXPECT_EQ(parse_moment("tomorrow", now_), at("2026-07-02T22:00:00Z"));
  // A day of 25 hours lies between.
  EXPECT_EQ(parse_moment("yesterday", at("2026-10-26T12:00:00Z")), at("2026-10-24T22:00:00Z"));
}

TEST_F(LocalTime, ADurationIsBeforeNow) {
  EXPECT_EQ(parse_moment("1h", now_), now_ - std::chrono::hours(1));
  EXPECT_EQ(parse_moment("-2h", now_), now_ - std::chrono::hours(2));
  EXPECT_EQ(parse_moment("30m ago", now_), now_ - std::chrono::minutes(30));
  EXPECT_EQ(parse_moment("2 days ago", now_), now_ - std::chrono::days(2));
  EXPECT_EQ(parse_moment("1w", now_), now_ - std::chrono::days(7));
  EXPECT_EQ(parse_moment("1h 30min", now_), now_ - std::chrono::minutes(90));
  EXPECT_EQ(parse_moment("1h30m", now_), now_ - std::chrono::minutes(90));
  EXPECT_EQ(parse_moment("+5min", now_), now_ + std::chrono::minutes(5));
}

TEST_F(LocalTime, ATimeThatNoClockShowsIsReadAllTheSame) {
  EXPECT_EQ(parse_moment("2026-03-29 03:00", now_), at("2026-03-29T01:00:00Z"));
  const auto skipped = parse_moment("2026-03-29 02:30", now_);
  ASSERT_TRUE(skipped);
  EXPECT_GE(*skipped, at("2026-03-29T00:30:00Z"));
  EXPECT_LE(*skipped, at("2026-03-29T01:30:00Z"));
}

TEST_F(LocalTime, WhatIsNoTimeIsRefused) {
  for (const char* text : {"", " ", "soon", "2026", "2026-02-30", "2026-13-01", "2026-01-01 24:00", "10:60", "1:00",
                           "h", "1", "1x", "-", "+1h ago", "999999999w", "2026-01-01 10", "10:00:", "1 h 2"}) {
    EXPECT_FALSE(parse_moment(text, now_)) << text;
  }
}

TEST_F(LocalTime, IsShownLocal) {
  EXPECT_EQ(local_time(now_), "2026-07-02 10:04:05 CEST");
  EXPECT_EQ(local_time(at("2026-01-02T08:04:05Z")), "2026-01-02 09:04:05 CET");
  EXPECT_EQ(local_time_with_offset(now_), "2026-07-02 10:04:05+02:00");
  EXPECT_EQ(local_time_with_offset(at("2026-07-02T08:04:05.6789Z"), Digits::kMilliseconds),
            "2026-07-02 10:04:05.678+02:00");
  set("XXX3:30");
  EXPECT_EQ(local_time_with_offset(now_), "2026-07-02 04:34:05-03:30");
  set("UTC0");
  EXPECT_EQ(local_time(now_), "2026-07-02 08:04:05 UTC");
}

TEST_F(LocalTime, IsShortInColumns) {
  EXPECT_EQ(short_local_time(at("2026-07-01T22:00:00Z"), now_), "00:00:00");
  EXPECT_EQ(short_local_time(at("2026-07-01T21:59:59Z"), now_), "07-01 23:59");
  EXPECT_EQ(short_local_time(at("2025-12-31T12:00:00Z"), now_), "2025-12-31");
  EXPECT_EQ(short_local_time(at("2025-12-31T23:30:00Z"), now_), "01-01 00:30");
}

}  // namespace
}  // namespace run_recorder
