#include "base/time.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

Timestamp at(int year, unsigned month, unsigned day, std::chrono::microseconds time_of_day = 0us) {
  return std::chrono::sys_days{std::chrono::year{year} / static_cast<int>(month) / static_cast<int>(day)} +
         time_of_day;
}

std::string round_trip(std::string_view text) {
  const auto time = parse_rfc3339(text);
  return time ? format_rfc3339(*time) : "nothing";
}

TEST(Rfc3339, TextBecomesUtcWithMicroseconds) {
  EXPECT_EQ(parse_rfc3339("2026-01-02T03:04:05.678+01:00"), at(2026, 1, 2, 2h + 4min + 5s + 678ms));
  EXPECT_EQ(round_trip("2026-01-02T03:04:05.678+01:00"), "2026-01-02T02:04:05.678000Z");
  EXPECT_EQ(round_trip("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05.000000Z");
  EXPECT_EQ(round_trip("2026-01-02t03:04:05z"), "2026-01-02T03:04:05.000000Z");
  EXPECT_EQ(round_trip("2026-01-02 03:04:05-00:00"), "2026-01-02T03:04:05.000000Z");
  EXPECT_EQ(round_trip("2026-12-31T23:30:00-01:15"), "2027-01-01T00:45:00.000000Z");
  EXPECT_EQ(round_trip("1969-12-31T23:59:59.999999Z"), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(round_trip("2026-06-01T00:00:00+23:59"), "2026-05-31T00:01:00.000000Z");
}

TEST(Rfc3339, FractionIsCutAfterMicroseconds) {
  EXPECT_EQ(round_trip("2026-01-02T03:04:05.1Z"), "2026-01-02T03:04:05.100000Z");
  EXPECT_EQ(round_trip("2026-01-02T03:04:05.1234569Z"), "2026-01-02T03:04:05.123456Z");
  EXPECT_EQ(round_trip("2026-01-02T03:04:05.99999999999999999999999Z"), "2026-01-02T03:04:05.999999Z");
}

TEST(Rfc3339, LeapSecondIsTheNextMinute) {
  EXPECT_EQ(round_trip("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00.000000Z");
  EXPECT_EQ(round_trip("2016-12-31T23:59:60.75Z"), "2017-01-01T00:00:00.000000Z");
}

TEST(Rfc3339, LeapDaysAreThoseOfTheCalendar) {
  EXPECT_EQ(round_trip("2024-02-29T00:00:00Z"), "2024-02-29T00:00:00.000000Z");
  EXPECT_EQ(round_trip("2000-02-29T00:00:00Z"), "2000-02-29T00:00:00.000000Z");
  EXPECT_EQ(round_trip("2026-02-29T00:00:00Z"), "nothing");
  EXPECT_EQ(round_trip("1900-02-29T00:00:00Z"), "nothing");
}

TEST(Rfc3339, YearsAre1To9999) {
  EXPECT_EQ(round_trip("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00.000000Z");
  EXPECT_EQ(round_trip("9999-12-31T23:59:59.9999999Z"), "9999-12-31T23:59:59.999999Z");
  EXPECT_EQ(round_trip("0000-12-31T23:30:00-01:00"), "nothing");
  EXPECT_EQ(round_trip("0001-01-01T00:00:00+00:01"), "nothing");
  EXPECT_EQ(round_trip("9999-12-31T23:59:59-00:01"), "nothing");
  EXPECT_EQ(round_trip("9999-12-31T23:59:60Z"), "nothing");
}

TEST(Rfc3339, RefusesMalformedTimes) {
  for (const char* text : {"",
                           "2026",
                           "2026-01-02",
                           "2026-01-02T03:04:05",
                           "2026-01-02T03:04Z",
                           "2026-01-02T03:04:05.Z",
                           "26-01-02T03:04:05Z",
                           "2026-1-2T03:04:05Z",
                           "2026-13-01T00:00:00Z",
                           "2026-00-01T00:00:00Z",
                           "2026-01-00T00:00:00Z",
                           "2026-04-31T00:00:00Z",
                           "2026-01-02T24:00:00Z",
                           "2026-01-02T03:60:00Z",
                           "2026-01-02T03:04:61Z",
                           "2026-01-02T03:04:05+24:00",
                           "2026-01-02T03:04:05+01:60",
                           "2026-01-02T03:04:05+0100",
                           "2026-01-02T03:04:05+01",
                           "2026-01-02T03:04:05 Z",
                           "2026-01-02T03:04:05Z ",
                           " 2026-01-02T03:04:05Z",
                           "2026-01-02T03:04:05,5Z",
                           "2026-01-02_03:04:05Z",
                           "+2026-01-02T03:04:05Z",
                           "12026-01-02T03:04:05Z",
                           "-001-01-02T03:04:05Z",
                           "now"}) {
    EXPECT_EQ(parse_rfc3339(text), std::nullopt) << text;
  }
}

TEST(Rfc3339, OrderOfTextsIsOrderOfTimes) {
  const std::vector<Timestamp> times = {
      at(1, 1, 1),         at(999, 12, 31),  at(1969, 12, 31, 23h),      at(1970, 1, 1),
      at(1970, 1, 1, 1us), at(2026, 11, 23), at(9999, 12, 31, 24h - 1us)};
  for (std::size_t i = 0; i < times.size(); ++i) {
    const std::string text = format_rfc3339(times[i]);
    EXPECT_EQ(text.size(), 27u);
    EXPECT_EQ(parse_rfc3339(text), times[i]);
    if (i > 0) {
      EXPECT_LT(format_rfc3339(times[i - 1]), text);
    }
  }
}

TEST(Rfc3339, NowIsRepresentable) {
  const Timestamp now = now_utc();
  EXPECT_GT(now, at(2024, 1, 1));
  EXPECT_EQ(parse_rfc3339(format_rfc3339(now)), now);
}

TEST(Duration, ParsesUnitsAndSums) {
  EXPECT_EQ(parse_duration("350ms"), 350ms);
  EXPECT_EQ(parse_duration("30s"), 30s);
  EXPECT_EQ(parse_duration("5m"), 5min);
  EXPECT_EQ(parse_duration("24h"), 24h);
  EXPECT_EQ(parse_duration("7d"), 168h);
  EXPECT_EQ(parse_duration("1w"), 168h);
  EXPECT_EQ(parse_duration("1h30m"), 90min);
  EXPECT_EQ(parse_duration("1m1ms"), 60'001ms);
  EXPECT_EQ(parse_duration("0s"), 0ms);
  EXPECT_EQ(parse_duration("36500d"), kLongestDuration);
}

TEST(Duration, WithoutUnitNegativeOrTooLongIsRefused) {
  for (const char* text : {"",
                           "0",
                           "30",
                           "-5s",
                           "+5s",
                           "5 s",
                           "s",
                           "5S",
                           "1.5s",
                           "5min",
                           "5us",
                           "1h30",
                           "5s ",
                           " 5s",
                           "5s5",
                           "36501d",
                           "36500d1ms",
                           "99999999999999999999s",
                           "18446744073709551615d",
                           "1d\xC3\xA4"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
}

TEST(Duration, FormatIsShortAndExact) {
  const std::vector<std::pair<std::chrono::milliseconds, std::string>> cases = {
      {0ms, "0s"}, {350ms, "350ms"}, {30s, "30s"}, {90s, "1m30s"},      {5min, "5m"},
      {24h, "1d"}, {36h, "1d12h"},   {168h, "7d"}, {1h + 1ms, "1h1ms"}, {-90s, "-1m30s"}};
  for (const auto& [duration, text] : cases) {
    EXPECT_EQ(format_duration(duration), text);
    if (duration >= 0ms) {
      EXPECT_EQ(parse_duration(text), duration);
    }
  }
}

TEST(Size, UnitsArePowersOf1024) {
  EXPECT_EQ(parse_size("512B"), 512u);
  EXPECT_EQ(parse_size("64KiB"), 65'536u);
  EXPECT_EQ(parse_size("16MiB"), 16'777'216u);
  EXPECT_EQ(parse_size("1GiB"), 1'073'741'824u);
  EXPECT_EQ(parse_size("2TiB"), 2'199'023'255'552u);
  EXPECT_EQ(parse_size("0B"), 0u);
  EXPECT_EQ(parse_size("18446744073709551615B"), 18'446'744'073'709'551'615u);
}

TEST(Size, WithoutUnitOrTooLargeIsRefused) {
  for (const char* text : {"", "1", "1K", "1KB", "1kib", "1 KiB", "-1B", "1.5MiB", "MiB", "1GiB1B",
                           "18446744073709551616B", "16777216TiB", "1GiB "}) {
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
  }
}

TEST(Size, FormatTakesTheLargestExactUnit) {
  for (const char* text : {"0B", "512B", "1536B", "1KiB", "64KiB", "16MiB", "1GiB", "2TiB", "1025MiB"}) {
    const auto size = parse_size(text);
    ASSERT_TRUE(size) << text;
    EXPECT_EQ(format_size(*size), text);
  }
  EXPECT_EQ(format_size(1024 * 1024), "1MiB");
}

TEST(Sizes, AreRoundedForPeople) {
  EXPECT_EQ(size_in_words(0), "0 B");
  EXPECT_EQ(size_in_words(512), "512 B");
  EXPECT_EQ(size_in_words(1'536), "1.5 KiB");
  EXPECT_EQ(size_in_words(1ULL << 30), "1 GiB");
}

}  // namespace
}  // namespace run_recorder
