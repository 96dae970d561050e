#include "base/time.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "base/ascii.h"

namespace run_recorder {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr Timestamp kEarliest = std::chrono::sys_days{std::chrono::year{1} / 1 / 1};
constexpr Timestamp kLatest = std::chrono::sys_days{std::chrono::year{10000} / 1 / 1} - microseconds{1};

// Reads a text from its beginning; every function takes what it names, or nothing and says so.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool done() const { return rest_.empty(); }
  bool take(char wanted) {
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_any(std::string_view wanted) {
    if (rest_.empty() || wanted.find(rest_.front()) == std::string_view::npos) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string_view take_letters() {
    std::size_t count = 0;
    while (count < rest_.size() && !is_digit(rest_[count])) ++count;
    const std::string_view letters = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return letters;
  }
  // Exactly count digits, at most nine.
  std::optional<int> take_number(std::size_t count) {
    if (rest_.size() < count) return std::nullopt;
    int value = 0;
    for (const char c : rest_.substr(0, count)) {
      if (!is_digit(c)) return std::nullopt;
      value = value * 10 + (c - '0');
    }
    rest_.remove_prefix(count);
    return value;
  }
  // As many digits as there are, at least one; empty also where the value does not fit.
  std::optional<std::uint64_t> take_whole_number() {
    constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
    if (rest_.empty() || !is_digit(rest_.front())) return std::nullopt;
    std::uint64_t value = 0;
    while (!rest_.empty() && is_digit(rest_.front())) {
      const auto digit = static_cast<std::uint64_t>(rest_.front() - '0');
      if (value > (kMax - digit) / 10) return std::nullopt;
      value = value * 10 + digit;
      rest_.remove_prefix(1);
    }
    return value;
  }
  // The digits after a point as microseconds; the seventh digit and what follows is cut.
  std::optional<microseconds> take_fraction() {
    if (rest_.empty() || !is_digit(rest_.front())) return std::nullopt;
    microseconds value{0};
    microseconds unit{100'000};
    while (!rest_.empty() && is_digit(rest_.front())) {
      value += unit * (rest_.front() - '0');
      unit /= 10;
      rest_.remove_prefix(1);
    }
    return value;
  }

 private:
  std::string_view rest_;
};

std::optional<std::chrono::sys_days> read_date(Reader& reader) {
  const auto year = reader.take_number(4);
  if (!year || !reader.take('-')) return std::nullopt;
  const auto month = reader.take_number(2);
  if (!month || !reader.take('-')) return std::nullopt;
  const auto day = reader.take_number(2);
  if (!day || *year == 0) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{*year}, std::chrono::month{static_cast<unsigned>(*month)},
                                         std::chrono::day{static_cast<unsigned>(*day)}};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days{date};
}

std::optional<microseconds> read_time_of_day(Reader& reader) {
  const auto hour = reader.take_number(2);
  if (!hour || *hour > 23 || !reader.take(':')) return std::nullopt;
  const auto minute = reader.take_number(2);
  if (!minute || *minute > 59 || !reader.take(':')) return std::nullopt;
  const auto second = reader.take_number(2);
  if (!second || *second > 60) return std::nullopt;
  microseconds fraction{0};
  if (reader.take('.')) {
    const auto read = reader.take_fraction();
    if (!read) return std::nullopt;
    if (*second != 60) fraction = *read;
  }
  return hours{*hour} + minutes{*minute} + seconds{*second} + fraction;
}

// How far local time is ahead of UTC.
std::optional<minutes> read_offset(Reader& reader) {
  if (reader.take_any("Zz")) return minutes{0};
  const bool behind = reader.take('-');
  if (!behind && !reader.take('+')) return std::nullopt;
  const auto hour = reader.take_number(2);
  if (!hour || *hour > 23 || !reader.take(':')) return std::nullopt;
  const auto minute = reader.take_number(2);
  if (!minute || *minute > 59) return std::nullopt;
  const minutes offset = hours{*hour} + minutes{*minute};
  return behind ? -offset : offset;
}

void put_digits(char* to, std::size_t count, std::int64_t value) {
  for (std::size_t i = count; i > 0; --i) {
    to[i - 1] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

struct DurationUnit {
  std::string_view name;
  milliseconds length;
};
constexpr std::array<DurationUnit, 5> kDurationUnits{
    {{"d", days{1}}, {"h", hours{1}}, {"m", minutes{1}}, {"s", seconds{1}}, {"ms", milliseconds{1}}}};

struct SizeUnit {
  std::string_view name;
  int shift;
};
constexpr std::array<SizeUnit, 5> kSizeUnits{{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}};

}  // namespace

Timestamp now_utc() {
  return std::chrono::floor<microseconds>(std::chrono::system_clock::now());
}

std::optional<Timestamp> parse_rfc3339(std::string_view text) {
  Reader reader(text);
  const auto date = read_date(reader);
  if (!date || !reader.take_any("Tt ")) return std::nullopt;
  const auto time_of_day = read_time_of_day(reader);
  if (!time_of_day) return std::nullopt;
  const auto offset = read_offset(reader);
  if (!offset || !reader.done()) return std::nullopt;
  const Timestamp time = *date + *time_of_day - *offset;
  if (time < kEarliest || time > kLatest) return std::nullopt;
  return time;
}

std::string format_rfc3339(Timestamp time) {
  const auto midnight = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date{midnight};
  const std::chrono::hh_mm_ss<microseconds> clock{time - midnight};
  std::string text = "0000-00-00T00:00:00.000000Z";
  put_digits(&text[0], 4, static_cast<int>(date.year()));
  put_digits(&text[5], 2, static_cast<unsigned>(date.month()));
  put_digits(&text[8], 2, static_cast<unsigned>(date.day()));
  put_digits(&text[11], 2, clock.hours().count());
  put_digits(&text[14], 2, clock.minutes().count());
  put_digits(&text[17], 2, clock.seconds().count());
  put_digits(&text[20], 6, clock.subseconds().count());
  return text;
}

std::optional<milliseconds> parse_duration(std::string_view text) {
  constexpr milliseconds kLongest = kLongestDuration;
  Reader reader(text);
  milliseconds sum{0};
  do {
    const auto number = reader.take_whole_number();
    if (!number) return std::nullopt;
    const std::string_view name = reader.take_letters();
    milliseconds unit = name == "w" ? milliseconds(days{7}) : milliseconds{0};  // read, never written
    for (const DurationUnit& known : kDurationUnits) {
      if (known.name == name) unit = known.length;
    }
    if (unit == milliseconds{0}) return std::nullopt;
    if (*number > static_cast<std::uint64_t>((kLongest - sum) / unit)) return std::nullopt;
    sum += unit * static_cast<std::int64_t>(*number);
  } while (!reader.done());
  return sum;
}

std::string format_duration(milliseconds duration) {
  if (duration == milliseconds{0}) return "0s";
  std::string text;
  if (duration < milliseconds{0}) {
    text += '-';
    duration = -duration;
  }
  for (const DurationUnit& unit : kDurationUnits) {
    const auto count = duration / unit.length;
    if (count == 0) continue;
    text += std::to_string(count);
    text += unit.name;
    duration -= unit.length * count;
  }
  return text;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  Reader reader(text);
  const auto number = reader.take_whole_number();
  if (!number) return std::nullopt;
  const std::string_view name = reader.take_letters();
  if (!reader.done()) return std::nullopt;
  for (const SizeUnit& unit : kSizeUnits) {
    if (unit.name != name) continue;
    if (*number > (std::numeric_limits<std::uint64_t>::max() >> unit.shift)) return std::nullopt;
    return *number << unit.shift;
  }
  return std::nullopt;
}

std::string format_size(std::uint64_t bytes) {
  for (const SizeUnit& unit : kSizeUnits) {
    const std::uint64_t count = bytes >> unit.shift;
    if (count != 0 && count << unit.shift == bytes) return std::to_string(count).append(unit.name);
  }
  return "0B";
}

std::string size_in_words(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  std::uint64_t tenths = bytes * 10;
  if (bytes >= UINT64_MAX / 10) return std::to_string(bytes) + " B";
  while (tenths >= 10'240 && unit + 1 < kUnits.size()) {
    tenths /= 1'024;
    ++unit;
  }
  const std::string fraction = tenths % 10 == 0 ? "" : fmt::format(".{}", tenths % 10);
  return fmt::format("{}{} {}", tenths / 10, fraction, kUnits[unit]);
}

}  // namespace run_recorder
