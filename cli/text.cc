#include "cli/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cwchar>

#include "base/percent.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

std::size_t width_of(char32_t c) {
  const int width = ::wcwidth(static_cast<wchar_t>(c));
  return width < 0 ? 1 : static_cast<std::size_t>(width);
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_length(text);
    width += length == 0 ? 1 : width_of(utf8_code_point(text.substr(0, length)));
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return width;
}

std::string fit(std::string_view text, std::size_t columns) {
  if (display_width(text) <= columns) return std::string(text);
  if (columns == 0) return {};
  std::string out;
  std::size_t used = 0;
  while (!text.empty()) {
    const std::size_t length = std::max<std::size_t>(utf8_sequence_length(text), 1);
    const std::string_view sequence = text.substr(0, length);
    const std::size_t width = display_width(sequence);
    if (used + width > columns - 1) break;
    out += sequence;
    used += width;
    text.remove_prefix(length);
  }
  return out + "…";
}

std::string duration_in_words(std::chrono::milliseconds duration) {
  const std::int64_t ms = duration.count();
  if (ms < 0) return "-" + duration_in_words(-duration);
  const std::int64_t seconds = ms / 1'000;
  const auto two = [](std::int64_t large, std::string_view large_unit, std::int64_t small,
                      std::string_view small_unit) {
    return small == 0 ? fmt::format("{} {}", large, large_unit)
                      : fmt::format("{} {} {} {}", large, large_unit, small, small_unit);
  };
  if (ms < 1'000) return fmt::format("{} ms", ms);
  if (seconds < 60) return fmt::format("{}.{} s", seconds, ms % 1'000 / 100);
  if (seconds < 3'600) return two(seconds / 60, "min", seconds % 60, "s");
  if (seconds < 86'400) return two(seconds / 3'600, "h", seconds % 3'600 / 60, "min");
  return two(seconds / 86'400, "d", seconds % 86'400 / 3'600, "h");
}

std::string age_in_words(Timestamp time, Timestamp now) {
  const bool ahead = time > now;
  const std::int64_t seconds =
      std::chrono::duration_cast<std::chrono::seconds>(ahead ? time - now : now - time).count();
  // Clocks of two hosts are never quite the same.
  if (seconds < 1 || (ahead && seconds < 5)) return "just now";
  std::string words;
  if (seconds < 60) {
    words = fmt::format("{} s", seconds);
  } else if (seconds < 3'600) {
    words = fmt::format("{} min", seconds / 60);
  } else if (seconds < 172'800) {
    words = fmt::format("{} h", seconds / 3'600);
  } else {
    words = fmt::format("{} d", seconds / 86'400);
  }
  return ahead ? "in " + words : words + " ago";
}

std::string with_separators(std::uint64_t number) {
  return number_in_words(std::to_string(number));
}

std::string number_in_words(std::string_view number) {
  std::string text(number);
  const std::size_t first = text.starts_with('-') ? 1 : 0;
  const std::size_t end = std::min(text.find_first_not_of("0123456789", first), text.size());
  if (end < text.size() && text[end] != '.') return text;  // with an exponent, or no number
  for (std::size_t i = end; i > first + 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

std::string count_of(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", with_separators(number), noun, number == 1 ? "" : "s");
}

std::string pace_in_words(std::uint64_t runs, double part, std::chrono::milliseconds taken) {
  constexpr double kFirstGuess = 0.01;
  std::string words;
  const bool known = part > 0 && part <= 1;
  const auto ms = static_cast<double>(taken.count());
  if (known) words += fmt::format(", {:.0f} %", std::floor(100 * part));
  if (runs > 0 && ms > 0) {
    words += fmt::format(", {} runs/s",
                         with_separators(static_cast<std::uint64_t>(static_cast<double>(runs) * 1'000 / ms)));
  }
  if (known && part >= kFirstGuess && part < 1) {
    const auto left = static_cast<std::int64_t>(ms * (1 - part) / part / 1'000) + 1;
    words += fmt::format(", {} left", duration_in_words(std::chrono::seconds{left}));
  }
  return words;
}

std::string with_backslashes(std::string_view text, std::string_view characters) {
  std::string quoted;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

std::string percent_encoded(std::string_view text) {
  // "." and ".." alone would be read as steps in the path.
  if (text == ".") return "%2E";
  if (text == "..") return "%2E%2E";
  return percent_encode(text);
}

std::vector<std::string> lines_of(std::string_view text, char end_of_line) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(end_of_line), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace run_recorder
