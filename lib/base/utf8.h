// UTF-8 as far as the project looks into it: is it well-formed, and where may it be cut. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <string_view>

namespace run_recorder {

// The bytes of the well-formed sequence text begins with (The Unicode Standard, table 3-7: no overlong form, no
// surrogate, nothing beyond U+10FFFF); 0 where it begins with none.
std::size_t utf8_sequence_length(std::string_view text);

// The longest beginning of valid UTF-8 that has at most max_bytes and does not end inside of a sequence.
std::string_view utf8_prefix(std::string_view text, std::size_t max_bytes);

}  // namespace run_recorder
