// Text as people read it on a terminal: widths, cuts, ages in words, numbers with separators; and the spelling of
// ids in URLs. Pure, thread-safe; widths need a UTF-8 LC_CTYPE (main sets it).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "base/utf8.h"

namespace run_recorder {

// Columns the text takes.
std::size_t display_width(std::string_view text);
// The text, cut to that many columns with … at its end where it is wider.
std::string fit(std::string_view text, std::size_t columns);

// "850 ms", "12.3 s", "4 min 5 s", "3 h 20 min", "2 d 4 h".
std::string duration_in_words(std::chrono::milliseconds duration);
// "just now", "12 s ago", "3 min ago", "5 h ago", "12 d ago"; "in 3 min" where the time is ahead.
std::string age_in_words(Timestamp time, Timestamp now);
// "1,234,567"
std::string with_separators(std::uint64_t number);
// A JSON number as it is written, the digits before its point in groups: "1,234.50"; other text as it is.
std::string number_in_words(std::string_view number);
// "1 run", "2 runs", "1,234 runs".
std::string count_of(std::uint64_t number, std::string_view noun);

// What follows the counts of something long: ", 61 %, 9,500 runs/s, 12 s left". part: of the whole, from 0 to 1; 0 or
// more than 1: unknown. What is not known yet is left out.
std::string pace_in_words(std::uint64_t runs, double part, std::chrono::milliseconds taken);

// The text with a backslash before each of these characters, as a string in quotes has them.
std::string with_backslashes(std::string_view text, std::string_view characters);

// RFC 3986: everything but the unreserved characters as %XX, so that any run_id is one path segment.
std::string percent_encoded(std::string_view text);

// The parts of a text that each end with that character; the last may lack it.
std::vector<std::string> lines_of(std::string_view text, char end_of_line = '\n');

}  // namespace run_recorder
