#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace run_recorder {
namespace {

TEST(Utf8, SequencesOfEveryLengthAreMeasured) {
  EXPECT_EQ(utf8_sequence_length("a"), 1u);
  EXPECT_EQ(utf8_sequence_length(std::string_view("\0", 1)), 1u);
  EXPECT_EQ(utf8_sequence_length("\xC2\x80"), 2u);
  EXPECT_EQ(utf8_sequence_length("\xDF\xBFx"), 2u);
  EXPECT_EQ(utf8_sequence_length("\xE0\xA0\x80"), 3u);
  EXPECT_EQ(utf8_sequence_length("\xED\x9F\xBF"), 3u);
  EXPECT_EQ(utf8_sequence_length("\xEE\x80\x80"), 3u);
  EXPECT_EQ(utf8_sequence_length("\xEF\xBF\xBF"), 3u);
  EXPECT_EQ(utf8_sequence_length("\xF0\x90\x80\x80"), 4u);
  EXPECT_EQ(utf8_sequence_length("\xF4\x8F\xBF\xBF"), 4u);
}

TEST(Utf8, OverlongSurrogateTooHighAndTruncatedAreNone) {
  for (const char* text : {"", "\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2z", "\xE0\x9F\xBF", "\xE0\xA0",
                           "\xE1\x80z", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF0\x90\x80",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF"}) {
    EXPECT_EQ(utf8_sequence_length(text), 0u) << text;
  }
}

TEST(Utf8, ATextIsValidOnlyAsAWhole) {
  for (const char* text : {"", "a", "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z"}) EXPECT_TRUE(valid_utf8(text)) << text;
  for (const char* text : {"\xFF", "a\xC3", "\x80z", "a\xED\xA0\x80z"}) EXPECT_FALSE(valid_utf8(text)) << text;
}

TEST(Utf8, PrefixNeverEndsInsideOfASequence) {
  const std::string text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z";  // 1 + 2 + 3 + 4 + 1 bytes
  const std::size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (std::size_t max = 0; max < std::size(expected); ++max) EXPECT_EQ(utf8_prefix(text, max).size(), expected[max]);
}

// Every one of the list, as UTF-8 and as it must be shown.
const std::vector<std::pair<std::string, std::string>> kCommands = {
    {"\x7F", "\\x7f"},           {"\xC2\x80", "\\x80"},       {"\xC2\x9B", "\\x9b"},
    {"\xC2\x9F", "\\x9f"},       {"\xD8\x9C", "\\u061c"},     {"\xE2\x80\x8E", "\\u200e"},
    {"\xE2\x80\x8F", "\\u200f"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"},
    {"\xE2\x80\xAA", "\\u202a"}, {"\xE2\x80\xAB", "\\u202b"}, {"\xE2\x80\xAC", "\\u202c"},
    {"\xE2\x80\xAD", "\\u202d"}, {"\xE2\x80\xAE", "\\u202e"}, {"\xE2\x81\xA6", "\\u2066"},
    {"\xE2\x81\xA7", "\\u2067"}, {"\xE2\x81\xA8", "\\u2068"}, {"\xE2\x81\xA9", "\\u2069"},
    {"\xEF\xBB\xBF", "\\ufeff"}};

TEST(Utf8, PrintableEscapesControlAndBidirectionalCharacters) {
  for (const auto& [text, shown] : kCommands) EXPECT_EQ(printable("a" + text + "z"), "a" + shown + "z");
  EXPECT_EQ(printable("a\x1b[2J\n\t\r\x9b"), "a\\x1b[2J\\n\\t\\r\xEF\xBF\xBD");
  // Neighbours of the list, letters that are written from right to left, and joined emoji stay.
  const std::string kept =
      "\xC2\xA0\xD8\x9B\xD8\x9D\xE2\x80\x8D\xE2\x80\x90\xE2\x80\xAF\xE2\x81\xA5\xE2\x80\xA6\xD7\x90\xF0\x9F\x98\x80";
  EXPECT_EQ(printable(kept), kept);
}

TEST(Utf8, PrintableJsonKeepsTheValueOfTheJson) {
  for (const auto& [text, shown] : kCommands) {
    const std::string escape = shown.starts_with("\\x") ? "\\u00" + shown.substr(2) : shown;
    EXPECT_EQ(printable_json("[\"a" + text + "z\"]"), "[\"a" + escape + "z\"]");
  }
  EXPECT_EQ(printable_json("{\"a\":\t1,\r\"b\":\"\\n\"}\n{}\n"), "{\"a\": 1, \"b\":\"\\n\"}\n{}\n");
}

}  // namespace
}  // namespace run_recorder
