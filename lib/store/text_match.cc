#include "store/text_match.h"

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

std::array<ColumnPattern, 4> column_patterns(const RunFilter& filter) {
  return {
      {{"council", filter.council_glob}, {"host", filter.host}, {"unit", filter.unit}, {"os_user", filter.os_user}}};
}

std::string above_prefix(std::string_view prefix) {
  return std::string(prefix) + "\xF4\x8F\xBF\xBF";
}

}  // namespace run_recorder
