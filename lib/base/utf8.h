// UTF-8: validation, cutting, and escaping what must not reach a terminal or a log. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace run_recorder {

// The bytes of the well-formed sequence text begins with (The Unicode Standard, table 3-7: no overlong form, no
// surrogate, nothing beyond U+10FFFF); 0 where it begins with none.
std::size_t utf8_sequence_length(std::string_view text);

bool valid_utf8(std::string_view text);
// Each byte that is not part of valid UTF-8 becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

// The longest beginning of valid UTF-8 that has at most max_bytes and does not end inside of a sequence.
std::string_view utf8_prefix(std::string_view text, std::size_t max_bytes);

// Precondition: sequence is one well-formed UTF-8 sequence.
char32_t utf8_code_point(std::string_view sequence);

// Whether a terminal or a reader could be misled by it: control characters (C0, DEL, C1), the line separators
// U+2028 and U+2029, and the invisible ones that reorder the text around them (U+061C, U+200E, U+200F, U+202A to
// U+202E, U+2066 to U+2069) or hide in it (U+FEFF).
bool commands_terminal(char32_t c);

// The text with these characters visible, as \n, \x1b or \u202e, and each invalid byte as U+FFFD.
std::string printable(std::string_view text);

// JSON text with these characters as \uXXXX and with spaces for other white space than line feeds: the same JSON.
// Invalid bytes become U+FFFD.
std::string printable_json(std::string_view json);

}  // namespace run_recorder
