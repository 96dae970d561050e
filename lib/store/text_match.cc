#include "store/text_match.h"

#include <algorithm>

#include "base/utf8.h"

namespace run_recorder {
namespace {

// Calls wildcard(c) for each * and ?, and literal(c) for each byte that stands for itself.
template <class Wildcard, class Literal>
void read_pattern(std::string_view pattern, Wildcard&& wildcard, Literal&& literal) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '*' || c == '?') {
      wildcard(c);
    } else if (c == '\\' && i + 1 < pattern.size()) {
      literal(pattern[++i]);
    } else {
      literal(c);
    }
  }
}

std::size_t behind_character(std::string_view text, std::size_t at) {
  return at + std::max<std::size_t>(1, utf8_sequence_length(text.substr(at)));
}

}  // namespace

std::string like_pattern(std::string_view pattern) {
  std::string like;
  read_pattern(
      pattern, [&like](char c) { like += c == '*' ? '%' : '_'; },
      [&like](char c) {
        if (c == '%' || c == '_' || c == '\\') like += '\\';
        like += c;
      });
  return like;
}

std::string glob_pattern(std::string_view pattern) {
  std::string glob;
  read_pattern(
      pattern, [&glob](char c) { glob += c; },
      [&glob](char c) {
        const bool special = c == '*' || c == '?' || c == '[';
        glob += special ? std::string{'[', c, ']'} : std::string(1, c);
      });
  return glob;
}

bool is_pattern(std::string_view name_or_pattern) {
  return name_or_pattern.find_first_of("*?") != std::string_view::npos;
}

bool fits_name(std::string_view name_or_pattern, std::string_view name) {
  return is_pattern(name_or_pattern) ? fits_pattern(name_or_pattern, name) : name_or_pattern == name;
}

std::array<ColumnPattern, 4> column_patterns(const RunFilter& filter) {
  return {
      {{"council", filter.council_glob}, {"host", filter.host}, {"unit", filter.unit}, {"os_user", filter.os_user}}};
}

bool fits_pattern(std::string_view pattern, std::string_view name) {
  std::size_t wanted = 0;                                      // in the pattern
  std::size_t at = 0;                                          // in the name
  std::size_t behind_star = std::string_view::npos, from = 0;  // of the latest *, and where what follows it was tried
  while (at < name.size()) {
    const bool left = wanted < pattern.size();
    const bool escaped = left && pattern[wanted] == '\\' && wanted + 1 < pattern.size();
    if (left && pattern[wanted] == '*') {
      behind_star = ++wanted;
      from = at;
    } else if (left && pattern[wanted] == '?') {
      ++wanted;
      at = behind_character(name, at);
    } else if (left && pattern[wanted + (escaped ? 1 : 0)] == name[at]) {
      wanted += escaped ? 2 : 1;
      ++at;
    } else if (behind_star == std::string_view::npos) {
      return false;
    } else {
      wanted = behind_star;
      at = from = behind_character(name, from);
    }
  }
  return pattern.find_first_not_of('*', wanted) == std::string_view::npos;
}

std::string above_prefix(std::string_view prefix) {
  return std::string(prefix) + "\xF4\x8F\xBF\xBF";
}

}  // namespace run_recorder
