// JSON as text, kept as the sender wrote it. The contract keeps numbers exact, refuses duplicate keys and tells
// malformed from too deep; no JSON library in Debian 12 does all three, so validation is here, and everything else
// (building answers, reading our own JSON) is nlohmann_json's. Pure, thread-safe; never throws on any input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace run_recorder {

// A complete, valid JSON value in UTF-8, without newline characters outside of strings' escapes when it came from a
// line.
using JsonText = std::string;

enum class JsonProblem {
  kNone,
  kMalformed,  // not JSON: syntax, UTF-8, lone surrogate, number that is no finite double (what is too small for one
               // is 0), has an exponent beyond ±1,000 or more than 1,000 characters, duplicate key
  kTooDeep,    // more than max_depth nested arrays and objects; wins over kMalformed wherever it is in the text
  kNulEscape,  // valid JSON, but a string holds \u0000, which PostgreSQL cannot store
};

enum class JsonType { kObject, kArray, kString, kNumber, kTrue, kFalse, kNull };

struct JsonMember {
  std::string key;  // decoded
  JsonType type;
  std::string_view value;  // the value's text, a slice of the scanned text without white space around it
};

struct JsonScan {
  JsonProblem problem = JsonProblem::kNone;
  std::string message;              // what is wrong, with the byte offset (from 1); empty for kNone
  JsonType type = JsonType::kNull;  // of the whole value
  std::vector<JsonMember> members;  // of the whole value where it is an object, in the text's order
};

// Validates all of text (one value, white space around it allowed). The outermost array or object is depth 1.
// The slices point into text.
JsonScan scan_json(std::string_view text, std::size_t max_depth);

// The elements of a valid array's text, as slices. Precondition: array was validated by scan_json.
std::vector<std::string_view> json_elements(std::string_view array);
// The members of a valid object's text. Same precondition.
std::vector<JsonMember> json_members(std::string_view object);
JsonType json_type(std::string_view value);
// A valid JSON string (with its quotes) decoded to UTF-8.
std::string json_string_value(std::string_view quoted);
// A valid JSON number as an integer, where it is one exactly (1, -5, 1e3, 2.0 are; 1.5 is not) and fits.
std::optional<std::int64_t> json_integer(std::string_view number);

// Appends text as a JSON string with quotes. Precondition: text is valid UTF-8 (invalid bytes become U+FFFD).
void append_json_string(std::string& out, std::string_view text);
std::string json_string(std::string_view text);

// Equal as JSON values: key order, white space, escapes and the spelling of numbers (1.0, 1, 10e-1) do not matter;
// digits do. Precondition: both are valid.
bool json_equal(std::string_view a, std::string_view b);
// The same text for any two values that json_equal finds equal. It is JSON for comparing, not for storing: a number
// of many zeros can get an exponent that scan_json would refuse. Precondition: it is valid.
std::string canonical_json(std::string_view value);

}  // namespace run_recorder
