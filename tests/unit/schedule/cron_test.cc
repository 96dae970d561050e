#include "schedule/cron.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/time.h"
#include "schedule/due_times.h"

namespace run_recorder {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The first times after that one, as the zone's name and cron's fields say.
std::vector<std::string> due(const std::string& zone_name, const std::string& cron, const std::string& after,
                             int count) {
  const TimeZone zone = TimeZone::find(zone_name).value();
  const auto expression = CronExpression::parse(cron).value();
  std::vector<std::string> times;
  Timestamp time = parse_rfc3339(after).value();
  for (int i = 0; i < count; ++i) {
    const auto next = first_due_after(
        expression, [&](Timestamp at) { return zone.period_at(at); }, time);
    if (!next) break;
    time = *next;
    times.push_back(format_rfc3339(time).substr(0, 16));
  }
  return times;
}

std::string mistake(const std::string& cron) {
  const auto parsed = CronExpression::parse(cron);
  return parsed ? "none" : parsed.error().message;
}

TEST(Cron, FieldsHaveListsRangesStepsAndNames) {
  EXPECT_THAT(due("UTC", "5,35 8-10/2 * * *", "2026-12-01T00:00:00Z", 5),
              ElementsAre("2026-12-01T08:05", "2026-12-01T08:35", "2026-12-01T10:05", "2026-12-01T10:35",
                          "2026-12-02T08:05"));
  EXPECT_THAT(due("UTC", "0 0 1 JAN,jul *", "2026-12-01T00:00:00Z", 2),
              ElementsAre("2027-01-01T00:00", "2027-07-01T00:00"));
  EXPECT_THAT(due("UTC", "50/5 23 31 12 *", "2026-12-01T00:00:00Z", 3),
              ElementsAre("2026-12-31T23:50", "2026-12-31T23:55", "2027-12-31T23:50"));
}

TEST(Cron, SundayIsZeroAndSevenAndEndsAWeek) {
  for (const char* sunday : {"0", "7", "sun", "Sun"}) {
    EXPECT_THAT(due("UTC", "0 3 * * " + std::string(sunday), "2026-12-01T00:00:00Z", 2),
                ElementsAre("2026-12-06T03:00", "2026-12-13T03:00"));
  }
  EXPECT_THAT(due("UTC", "0 3 * * fri-sun", "2026-12-01T00:00:00Z", 4),
              ElementsAre("2026-12-04T03:00", "2026-12-05T03:00", "2026-12-06T03:00", "2026-12-11T03:00"));
}

// crontab(5): "the command will be run when either field matches", and the one that begins with * is no restriction.
TEST(Cron, EitherDayFitsWhereBothAreRestricted) {
  EXPECT_THAT(due("UTC", "0 0 13 * fri", "2026-11-10T00:00:00Z", 4),
              ElementsAre("2026-11-13T00:00", "2026-11-20T00:00", "2026-11-27T00:00", "2026-12-04T00:00"));
  EXPECT_THAT(due("UTC", "0 0 */2 * sun", "2026-12-01T12:00:00Z", 2),
              ElementsAre("2026-12-13T00:00", "2026-12-27T00:00"));
}

TEST(Cron, Nicknames) {
  EXPECT_THAT(due("UTC", "@daily", "2026-12-01T00:00:00Z", 1), ElementsAre("2026-12-02T00:00"));
  EXPECT_THAT(due("UTC", "@Weekly", "2026-12-01T00:00:00Z", 1), ElementsAre("2026-12-06T00:00"));
  EXPECT_THAT(due("UTC", "@annually", "2026-12-01T00:00:00Z", 1), ElementsAre("2027-01-01T00:00"));
  EXPECT_THAT(mistake("@reboot"), HasSubstr("\"@reboot\" is no time; allowed are @hourly, @daily"));
}

TEST(Cron, ALeapDayComesEveryFourYearsButIn2100) {
  EXPECT_THAT(due("UTC", "0 0 29 2 *", "2092-03-01T00:00:00Z", 3),
              ElementsAre("2096-02-29T00:00", "2104-02-29T00:00", "2108-02-29T00:00"));
}

TEST(Cron, MistakesNameTheFieldAndWhatIsAllowed) {
  EXPECT_THAT(mistake("0 24 * * *"), HasSubstr("the hour \"24\" is none; allowed are *, 0 to 23"));
  EXPECT_THAT(mistake("0 0 * jn *"), HasSubstr("the month \"jn\" is none; allowed are *, 1 to 12, jan to dec"));
  EXPECT_THAT(mistake("*/0 * * * *"), HasSubstr("a step that is no number from 1"));
  EXPECT_THAT(mistake("0 22-2 * * *"), HasSubstr("runs backwards (write 22-23,0-2)"));
  EXPECT_THAT(mistake("0 0 * *"), HasSubstr("it has 4 fields; five are needed"));
  EXPECT_THAT(mistake("0 0 0 * * *"), HasSubstr("it has 6 fields"));
  EXPECT_THAT(mistake(""), HasSubstr("it has 0 fields"));
  EXPECT_THAT(mistake("0 0 30 feb *"), HasSubstr("names no day of any year"));
  for (const char* wrong : {"1, * * * *", ",1 * * * *", "1- * * * *", "-1 * * * *", "1.5 * * * *",
                            "99999999999 * * * *", "? * * * *", "0 0 L * *"})
    EXPECT_THAT(mistake(wrong), HasSubstr("is none")) << wrong;
}

// Berlin: 29 March 2026 02:00 becomes 03:00, 25 October 2026 03:00 becomes 02:00.
TEST(DueTimes, WhatTheClockSkipsIsDueRightAfterIt) {
  EXPECT_THAT(due("Europe/Berlin", "30 2 * * *", "2026-03-27T23:00:00Z", 3),
              ElementsAre("2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"));
  EXPECT_THAT(due("Europe/Berlin", "10,50 2 * * *", "2026-03-29T00:00:00Z", 2),
              ElementsAre("2026-03-29T01:00", "2026-03-30T00:10"));
}

TEST(DueTimes, WhatTheClockShowsTwiceIsDueOnce) {
  EXPECT_THAT(due("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", 2),
              ElementsAre("2026-10-25T00:30", "2026-10-26T01:30"));
  // Asked between the two.
  EXPECT_THAT(due("Europe/Berlin", "30 2 * * *", "2026-10-25T00:45:00Z", 1), ElementsAre("2026-10-26T01:30"));
}

TEST(DueTimes, WhatIsDueEverySoOftenFollowsTheClock) {
  EXPECT_THAT(due("Europe/Berlin", "30 * * * *", "2026-03-29T00:00:00Z", 3),
              ElementsAre("2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"));
  EXPECT_THAT(due("Europe/Berlin", "*/30 2 * * *", "2026-10-24T23:59:00Z", 5),
              ElementsAre("2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30",
                          "2026-10-26T01:00"));
}

// Samoa went from 29 to 31 December 2011.
TEST(DueTimes, ADayThatIsLeftOutIsACorrection) {
  EXPECT_THAT(due("Pacific/Apia", "0 3 * * *", "2011-12-29T00:00:00Z", 2),
              ElementsAre("2011-12-29T13:00", "2011-12-30T13:00"));
  EXPECT_THAT(due("Pacific/Apia", "0 3 30 12 *", "2011-12-29T00:00:00Z", 1), ElementsAre("2012-12-29T13:00"));
}

TEST(TimeZones, AnUnknownOneIsNamedWithOneThatIsNear) {
  EXPECT_THAT(TimeZone::find("Europe/Berln").error().message, HasSubstr("did you mean Europe/Berlin?"));
  EXPECT_EQ(TimeZone::find("UTC").value().name(), "UTC");
}

}  // namespace
}  // namespace run_recorder
