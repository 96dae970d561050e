#include "cli/stderr_tail.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using Lines = std::vector<std::string>;

TEST(StderrTail, KeepsTheLastLinesHoweverTheBytesAreSplit) {
  const std::string text = "one\ntwo\nthree\nfour";
  for (std::size_t split = 0; split <= text.size(); ++split) {
    StderrTail tail(3);
    tail.feed(std::string_view(text).substr(0, split));
    tail.feed(std::string_view(text).substr(split));
    EXPECT_EQ(tail.lines(), (Lines{"two", "three", "four"})) << split;
  }
}

TEST(StderrTail, ALineWithoutNewlineCountsAndAnEmptyTailHasNone) {
  StderrTail tail(2);
  EXPECT_TRUE(tail.lines().empty());
  tail.feed("last words");
  EXPECT_EQ(tail.lines(), Lines{"last words"});
  tail.feed("\n");
  EXPECT_EQ(tail.lines(), Lines{"last words"});
  StderrTail none(0);
  none.feed("a\nb\n");
  EXPECT_TRUE(none.lines().empty());
}

TEST(StderrTail, InvalidBytesBecomeReplacementCharactersAndNulIsLeftOut) {
  StderrTail tail(5);
  tail.feed(
      std::string_view("a\xFF"
                       "b\0c\n",
                       6));
  EXPECT_EQ(tail.lines(), Lines{"a\uFFFDbc"});
}

TEST(StderrTail, ACarriageReturnStartsTheLineOver) {
  StderrTail tail(5);
  tail.feed(" 10%\r 50%\r100%\r\ndone\r\n");
  EXPECT_EQ(tail.lines(), (Lines{"100%", "done"}));
}

TEST(StderrTail, LongLinesAreCutBetweenCharactersAndMarked) {
  std::string text;
  while (text.size() < 5'000) text += "ü";
  StderrTail tail(1);
  tail.feed("x" + text);
  const Lines lines = tail.lines();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_LE(lines[0].size(), StderrTail::kMaxLineBytes + 3);
  EXPECT_TRUE(lines[0].ends_with("ü…")) << lines[0].substr(lines[0].size() - 8);
}

TEST(StderrTail, AllLinesTogetherAreBounded) {
  StderrTail tail(1'000);
  for (int i = 0; i < 10'000; ++i) tail.feed(std::string(500, 'x') + "\n");
  std::size_t bytes = 0;
  for (const std::string& line : tail.lines()) bytes += line.size();
  EXPECT_LE(bytes, StderrTail::kMaxBytes);
  EXPECT_GE(bytes, StderrTail::kMaxBytes / 2);
}

}  // namespace
}  // namespace run_recorder
