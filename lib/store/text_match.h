// What people write to find runs, as the databases' conditions want it: names with wildcards, beginnings of
// ids. Pure, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "store/store.h"

namespace run_recorder {

// A name's pattern has * for any characters, ? for one, and \ before a character that stands for itself.
// For PostgreSQL's LIKE with its default escape.
std::string like_pattern(std::string_view pattern);
// For SQLite's GLOB, which knows no escape but has [ ] for sets.
std::string glob_pattern(std::string_view pattern);
// What a configuration names: a name, or a pattern where it has a * or ?. A \ in a name stands for itself.
bool is_pattern(std::string_view name_or_pattern);
bool fits_name(std::string_view name_or_pattern, std::string_view name);
// Whether a name fits, as both databases judge it.
bool fits_pattern(std::string_view pattern, std::string_view name);

// What a filter asks of the columns that are compared with patterns.
struct ColumnPattern {
  std::string_view column;
  const std::optional<std::string>& pattern;
};
std::array<ColumnPattern, 4> column_patterns(const RunFilter& filter);

// So many of the ids that begin with a prefix are looked at, the first in the order of bytes: a short one may be that
// of all rows.
inline constexpr std::size_t kPrefixIds = 1'000;
// Above every id that begins with this, in the order of bytes; ids are UTF-8 without U+10FFFF, which is no character.
std::string above_prefix(std::string_view prefix);

}  // namespace run_recorder
