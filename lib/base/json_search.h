// Finds a text in the strings of a JSON value as people look for it: whatever the case of its letters and however the
// JSON spells them. Pure, thread-safe.
#pragma once

#include <string_view>

namespace run_recorder {

// Whether one of the value's strings holds text, in small or capital letters of any alphabet; keys do not count. It
// is a question, not a check: of what is no JSON, what looks like a string is searched. Takes memory for the longest
// string.
bool json_strings_hold(std::string_view json, std::string_view text);

}  // namespace run_recorder
