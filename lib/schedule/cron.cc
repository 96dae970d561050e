#include "schedule/cron.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string>

#include "base/ascii.h"

namespace run_recorder {
namespace {

using std::chrono::minutes;
using std::chrono::year_month_day;

constexpr std::array<std::string_view, 12> kMonthNames = {"jan", "feb", "mar", "apr", "may", "jun",
                                                          "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> kDayNames = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct Field {
  std::string_view name;
  unsigned lowest;
  unsigned highest;
  std::span<const std::string_view> names;  // of lowest, and so on
};

constexpr std::array<Field, 5> kFields = {{{"minute", 0, 59, {}},
                                           {"hour", 0, 23, {}},
                                           {"day of the month", 1, 31, {}},
                                           {"month", 1, 12, kMonthNames},
                                           {"day of the week", 0, 7, kDayNames}}};

struct Nickname {
  std::string_view name;
  std::string_view fields;
};

constexpr std::array<Nickname, 7> kNicknames = {{{"@yearly", "0 0 1 1 *"},
                                                 {"@annually", "0 0 1 1 *"},
                                                 {"@monthly", "0 0 1 * *"},
                                                 {"@weekly", "0 0 * * 0"},
                                                 {"@daily", "0 0 * * *"},
                                                 {"@midnight", "0 0 * * *"},
                                                 {"@hourly", "0 * * * *"}}};

Error cron_error(const std::string& message) {
  return {ErrorKind::kInvalid, message, {}};
}

bool equal_ignoring_case(std::string_view text, std::string_view lower) {
  return to_lower(text) == lower;
}

std::string allowed(const Field& field) {
  const auto names =
      field.names.empty() ? std::string() : fmt::format(", {} to {}", field.names.front(), field.names.back());
  return fmt::format("*, {} to {}{}, ranges as {}-{}, lists with commas, steps as */2", field.lowest, field.highest,
                     names, field.lowest, field.lowest + 1);
}

Error field_error(const Field& field, std::string_view found, std::string_view what) {
  return cron_error(fmt::format("the {} \"{}\" {}; allowed are {}", field.name, found, what, allowed(field)));
}

std::optional<unsigned> number_of(std::string_view text) {
  unsigned value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<unsigned> value_of(const Field& field, std::string_view text) {
  for (std::size_t i = 0; i < field.names.size(); ++i)
    if (equal_ignoring_case(text, field.names[i])) return field.lowest + static_cast<unsigned>(i);
  const auto value = number_of(text);
  return value && *value >= field.lowest && *value <= field.highest ? value : std::nullopt;
}

// The two ends of what stands before a step.
struct Ends {
  unsigned first;
  unsigned last;
};

Result<Ends> ends_of(const Field& field, std::string_view text, bool has_step) {
  if (text == "*") return Ends{field.lowest, field.highest == 7 ? 6 : field.highest};
  const auto dash = text.find('-');
  const auto first = value_of(field, text.substr(0, dash));
  if (!first) return field_error(field, text.substr(0, dash), "is none");
  if (dash == std::string_view::npos) return Ends{*first, has_step ? field.highest : *first};
  auto last = value_of(field, text.substr(dash + 1));
  if (!last) return field_error(field, text.substr(dash + 1), "is none");
  // A week that ends on Sunday.
  if (*last == 0 && *first > 0 && field.highest == 7) last = 7;
  if (*first > *last)
    return field_error(field, text,
                       fmt::format("runs backwards (write {}-{},{}-{})", *first,
                                   field.highest == 7 ? 6 : field.highest, field.lowest, *last));
  return Ends{*first, *last};
}

// One part of a list as bits.
Result<std::uint64_t> bits_of_part(const Field& field, std::string_view text) {
  const auto slash = text.find('/');
  unsigned step = 1;
  if (slash != std::string_view::npos) {
    const auto found = number_of(text.substr(slash + 1));
    if (!found || *found == 0) return field_error(field, text, "has a step that is no number from 1");
    step = *found;
  }
  const auto ends = ends_of(field, text.substr(0, slash), slash != std::string_view::npos);
  if (!ends) return ends.error();
  std::uint64_t bits = 0;
  for (auto value = ends->first; value <= ends->last; value += std::min(step, 64U)) bits |= std::uint64_t{1} << value;
  return bits;
}

Result<std::uint64_t> bits_of(const Field& field, std::string_view text) {
  std::uint64_t bits = 0;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto comma = std::min(text.find(',', begin), text.size());
    const auto part = bits_of_part(field, text.substr(begin, comma - begin));
    if (!part) return part.error();
    bits |= *part;
    begin = comma + 1;
  }
  return bits;
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  constexpr std::string_view kBlank = " \t";
  for (auto begin = text.find_first_not_of(kBlank); begin != std::string_view::npos;) {
    const auto end = std::min(text.find_first_of(kBlank, begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = text.find_first_not_of(kBlank, end);
  }
  return words;
}

// The five fields that a nickname stands for; empty: it is none.
std::string_view fields_of_nickname(std::string_view name) {
  for (const auto& nickname : kNicknames)
    if (equal_ignoring_case(name, nickname.name)) return nickname.fields;
  return {};
}

}  // namespace

Result<CronExpression> CronExpression::parse(std::string_view text) {
  auto words = words_of(text);
  if (words.size() == 1 && words[0].starts_with('@')) {
    const auto fields = fields_of_nickname(words[0]);
    if (fields.empty())
      return cron_error(fmt::format(
          "\"{}\" is no time; allowed are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually",
          words[0]));
    words = words_of(fields);
  }
  if (words.size() != kFields.size())
    return cron_error(fmt::format(
        "it has {} fields; five are needed: minute, hour, day of the month, month, day of the week", words.size()));
  std::array<std::uint64_t, 5> bits{};
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    const auto found = bits_of(kFields[i], words[i]);
    if (!found) return found.error();
    bits[i] = *found;
  }
  CronExpression made;
  for (unsigned hour = 0; hour < 24; ++hour)
    for (unsigned minute = 0; minute < 60; ++minute)
      if ((bits[1] >> hour & 1) != 0 && (bits[0] >> minute & 1) != 0) made.times_.emplace_back(hour * 60 + minute);
  made.days_ = static_cast<std::uint32_t>(bits[2]);
  made.months_ = static_cast<std::uint32_t>(bits[3]);
  made.weekdays_ = static_cast<std::uint32_t>((bits[4] | bits[4] >> 7) & 0x7f);
  made.either_day_ = !words[2].starts_with('*') && !words[4].starts_with('*');
  made.fixed_ = !words[0].starts_with('*') && !words[1].starts_with('*');
  if (!made.names_any_day()) return cron_error("it names no day of any year");
  return made;
}

// Each day of the month has met each day of the week within 28 years, 29 February too.
bool CronExpression::names_any_day() const {
  using namespace std::chrono_literals;
  for (std::chrono::sys_days day = 2000y / 1 / 1; day < std::chrono::sys_days(2028y / 1 / 1);
       day += std::chrono::days(1))
    if (names_day(day)) return true;
  return false;
}

bool CronExpression::names_day(year_month_day day) const {
  if ((months_ >> static_cast<unsigned>(day.month()) & 1) == 0) return false;
  const bool by_date = (days_ >> static_cast<unsigned>(day.day()) & 1) != 0;
  const auto weekday = std::chrono::weekday(std::chrono::sys_days(day)).c_encoding();
  const bool by_weekday = (weekdays_ >> weekday & 1) != 0;
  return either_day_ ? by_date || by_weekday : by_date && by_weekday;
}

}  // namespace run_recorder
