#include "cli/local_time.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "base/ascii.h"
#include "base/number.h"

namespace run_recorder {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

std::tm local_fields(Timestamp time) {
  const std::time_t whole = std::chrono::floor<seconds>(time).time_since_epoch().count();
  std::tm fields{};
  ::localtime_r(&whole, &fields);
  return fields;
}

int milliseconds_of(Timestamp time) {
  const auto part = time - std::chrono::floor<seconds>(time);
  return static_cast<int>(std::chrono::duration_cast<milliseconds>(part).count());
}

std::string day_of(const std::tm& fields) {
  return fmt::format("{:04}-{:02}-{:02}", fields.tm_year + 1900, fields.tm_mon + 1, fields.tm_mday);
}

std::string clock_of(const std::tm& fields) {
  return fmt::format("{:02}:{:02}:{:02}", fields.tm_hour, fields.tm_min, fields.tm_sec);
}

// The fields' moment on local clocks; mktime puts days and hours beyond their range where they belong.
std::optional<Timestamp> moment_of_fields(std::tm fields, bool utc) {
  fields.tm_isdst = -1;
  const std::time_t time = utc ? ::timegm(&fields) : ::mktime(&fields);
  const Timestamp moment = Timestamp(seconds(time));
  // As the range of all times here; -1 is an error too, and nobody asks for that second.
  if (time == -1 || fields.tm_year < -1899 || fields.tm_year > 8099) return std::nullopt;
  return moment;
}

std::optional<int> number_of(std::string_view digits, int most) {
  const auto number = parse_number<int>(digits);
  return number && *number >= 0 && *number <= most ? number : std::nullopt;
}

// "10:00" or "10:00:05" into the fields.
bool read_clock(std::string_view text, std::tm& fields) {
  if ((text.size() != 5 && text.size() != 8) || text[2] != ':') return false;
  const auto hour = number_of(text.substr(0, 2), 23);
  const auto minute = number_of(text.substr(3, 2), 59);
  const bool has_seconds = text.size() == 8;
  if (has_seconds && text[5] != ':') return false;
  const auto second = number_of(has_seconds ? text.substr(6, 2) : std::string_view("0"), 59);
  if (!hour || !minute || !second) return false;
  fields.tm_hour = *hour;
  fields.tm_min = *minute;
  fields.tm_sec = *second;
  return true;
}

// "2026-01-02" into the fields.
bool read_day(std::string_view text, std::tm& fields) {
  // A day that is none is refused by the reader of whole times.
  if (text.size() != 10 || !parse_rfc3339(std::string(text) + "T00:00:00Z")) return false;
  fields.tm_year = *number_of(text.substr(0, 4), 9999) - 1900;
  fields.tm_mon = *number_of(text.substr(5, 2), 12) - 1;
  fields.tm_mday = *number_of(text.substr(8, 2), 31);
  return true;
}

std::tm midnight(std::tm fields, int days_later) {
  fields.tm_hour = fields.tm_min = fields.tm_sec = 0;
  fields.tm_mday += days_later;
  return fields;
}

struct Unit {
  std::string_view name;
  milliseconds length;
};
constexpr std::array kMomentUnits{
    Unit{"ms", milliseconds{1}}, Unit{"s", seconds{1}},   Unit{"sec", seconds{1}},    Unit{"second", seconds{1}},
    Unit{"m", minutes{1}},       Unit{"min", minutes{1}}, Unit{"minute", minutes{1}}, Unit{"h", hours{1}},
    Unit{"hr", hours{1}},        Unit{"hour", hours{1}},  Unit{"d", days{1}},         Unit{"day", days{1}},
    Unit{"w", days{7}},          Unit{"week", days{7}},
};

std::optional<milliseconds> unit_of(std::string_view word) {
  for (const Unit& unit : kMomentUnits) {
    if (word == unit.name) return unit.length;
    // The long ones in plural: "days".
    if (unit.name.size() > 2 && word.size() == unit.name.size() + 1 && word.starts_with(unit.name) &&
        word.back() == 's') {
      return unit.length;
    }
  }
  return std::nullopt;
}

// "2h", "1 day 2 hours", "1h30min".
std::optional<milliseconds> read_duration(std::string_view text) {
  const milliseconds longest = kLongestDuration;
  milliseconds sum{0};
  const auto skip_spaces = [&text] { text.remove_prefix(std::min(text.find_first_not_of(' '), text.size())); };
  const auto take_while = [&text](auto&& fits) {
    std::size_t count = 0;
    while (count < text.size() && fits(text[count])) ++count;
    const std::string_view taken = text.substr(0, count);
    text.remove_prefix(count);
    return taken;
  };
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    const auto number = parse_number<std::int64_t>(take_while([](char c) { return is_digit(c); }));
    skip_spaces();
    const auto unit = unit_of(take_while([](char c) { return c >= 'a' && c <= 'z'; }));
    skip_spaces();
    if (!number || !unit || *number > (longest - sum) / *unit) return std::nullopt;
    sum += *unit * *number;
  }
  return sum;
}

std::optional<Timestamp> read_relative(std::string_view text, Timestamp now) {
  const bool ahead = text.starts_with('+');
  const bool ago = text.ends_with(" ago");
  if (ahead || text.starts_with('-')) text.remove_prefix(1);
  if (ago) text.remove_suffix(4);
  if (ahead && ago) return std::nullopt;
  const auto duration = read_duration(text);
  if (!duration) return std::nullopt;
  return ahead ? now + *duration : now - *duration;
}

std::optional<Timestamp> read_word(std::string_view text, Timestamp now) {
  const std::tm today = local_fields(now);
  if (text == "now") return now;
  if (text == "today") return moment_of_fields(midnight(today, 0), false);
  if (text == "yesterday") return moment_of_fields(midnight(today, -1), false);
  if (text == "tomorrow") return moment_of_fields(midnight(today, 1), false);
  return std::nullopt;
}

std::optional<Timestamp> read_clock_time(std::string_view text, Timestamp now) {
  constexpr std::string_view kUtc = " UTC";
  const bool utc = text.ends_with(kUtc);
  if (utc) text.remove_suffix(kUtc.size());
  std::tm fields = local_fields(now);
  if (utc) {
    const std::time_t whole = std::chrono::floor<seconds>(now).time_since_epoch().count();
    ::gmtime_r(&whole, &fields);
  }
  fields = midnight(fields, 0);
  if (text.size() > 10 && (text[10] == ' ' || text[10] == 'T')) {
    if (!read_day(text.substr(0, 10), fields) || !read_clock(text.substr(11), fields)) return std::nullopt;
  } else if (!read_day(text, fields) && !read_clock(text, fields)) {
    return std::nullopt;
  }
  return moment_of_fields(fields, utc);
}

}  // namespace

std::optional<Timestamp> parse_moment(std::string_view text, Timestamp now) {
  if (const auto time = parse_rfc3339(text)) return time;
  if (const auto time = read_word(text, now)) return time;
  if (const auto time = read_clock_time(text, now)) return time;
  return read_relative(text, now);
}

std::string local_time(Timestamp time) {
  const std::tm fields = local_fields(time);
  return fmt::format("{} {} {}", day_of(fields), clock_of(fields), fields.tm_zone);
}

std::string short_local_time(Timestamp time, Timestamp now) {
  const std::tm fields = local_fields(time);
  const std::tm today = local_fields(now);
  if (fields.tm_year != today.tm_year) return day_of(fields);
  if (fields.tm_yday == today.tm_yday) return clock_of(fields);
  return fmt::format("{} {}", day_of(fields).substr(5), clock_of(fields).substr(0, 5));
}

std::string local_milliseconds(Timestamp time) {
  const std::tm fields = local_fields(time);
  return fmt::format("{} {}.{:03}", day_of(fields), clock_of(fields), milliseconds_of(time));
}

std::string local_time_with_offset(Timestamp time, Digits digits) {
  const std::tm fields = local_fields(time);
  const long ahead = fields.tm_gmtoff / 60;
  const std::string text =
      digits == Digits::kMilliseconds ? local_milliseconds(time) : day_of(fields) + " " + clock_of(fields);
  return fmt::format("{}{}{:02}:{:02}", text, ahead < 0 ? '-' : '+', std::labs(ahead) / 60, std::labs(ahead) % 60);
}

}  // namespace run_recorder
