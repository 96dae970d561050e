#include "run/names.h"

#include <algorithm>

#include "base/ascii.h"

namespace run_recorder {

bool is_event_type(std::string_view text) {
  const auto is_allowed = [](char c) { return is_lower(c) || is_digit(c) || c == '_' || c == '.'; };
  return !text.empty() && text.size() <= kMaxShortNameBytes && is_lower(text.front()) &&
         std::ranges::all_of(text, is_allowed);
}

bool is_table_prefix(std::string_view text) {
  const auto is_allowed = [](char c) { return is_lower(c) || is_digit(c) || c == '_'; };
  return text.size() <= kMaxTablePrefixBytes && std::ranges::all_of(text, is_allowed) &&
         (text.empty() || !is_digit(text.front()));
}

}  // namespace run_recorder
