// How long names may be and what they are made of (contract section 4), for whoever reads them: events, the
// configuration, what is imported, the tables. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <string_view>

namespace run_recorder {

inline constexpr std::size_t kMaxNameBytes = 255;        // of a run id, a council, a job's id
inline constexpr std::size_t kMaxShortNameBytes = 64;    // of an event's type and id, a queue, a job's state
inline constexpr std::size_t kMaxCommandBytes = 1'024;   // of the folder and the command that a run runs with
inline constexpr std::size_t kMaxTablePrefixBytes = 30;  // of the tables

// 1 to kMaxNameBytes bytes.
constexpr bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes;
}
// [a-z][a-z0-9_.]*, at most kMaxShortNameBytes.
bool is_event_type(std::string_view text);
// Letters a to z, digits and _, no digit first, at most kMaxTablePrefixBytes; may be empty.
bool is_table_prefix(std::string_view text);

inline constexpr std::string_view kDefaultTablePrefix = "council_ex_";

}  // namespace run_recorder
