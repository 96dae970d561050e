#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>

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

TEST(Utf8, PrefixNeverEndsInsideOfASequence) {
  const std::string text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z";  // 1 + 2 + 3 + 4 + 1 bytes
  const std::size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (std::size_t max = 0; max < std::size(expected); ++max) EXPECT_EQ(utf8_prefix(text, max).size(), expected[max]);
}

}  // namespace
}  // namespace run_recorder
