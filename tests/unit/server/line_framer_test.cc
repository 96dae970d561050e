#include "server/line_framer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace run_recorder {
namespace {

constexpr std::size_t kPartial = 4096;

struct Recorded {
  bool line(std::string_view text) {
    seen.emplace_back(text);
    return go_on;
  }
  bool too_large() {
    seen.emplace_back("<too large>");
    return go_on;
  }
  bool no_room() {
    seen.emplace_back("<no room>");
    return go_on;
  }
  std::vector<std::string> seen;
  bool go_on = true;
};

using Lines = std::vector<std::string>;

TEST(LineFramer, CutsTheSameLinesWhereverTheBytesAreSplit) {
  const std::string text = "one\n\ntwo is longer\r\nthree";
  for (std::size_t first = 0; first <= text.size(); ++first) {
    for (std::size_t second = first; second <= text.size(); ++second) {
      LinePool pool(1 << 20);
      LineFramer framer(pool, kPartial);
      Recorded sink;
      for (const auto& part : {text.substr(0, first), text.substr(first, second - first), text.substr(second)}) {
        EXPECT_EQ(framer.feed(part, 100, sink), part.size());
      }
      framer.end(sink);
      ASSERT_EQ(sink.seen, (Lines{"one", "", "two is longer\r", "three"})) << first << " " << second;
    }
  }
}

TEST(LineFramer, LineOfExactlyTheLimitIsALineAndOneMoreByteIsTooLarge) {
  for (const std::size_t step : {1, 3, 1000}) {
    LinePool pool(1 << 20);
    LineFramer framer(pool, kPartial);
    Recorded sink;
    const std::string text =
        std::string(10, 'a') + "\n" + std::string(11, 'b') + "\n" + std::string(500, 'c') + "\nd\n";
    for (std::size_t at = 0; at < text.size(); at += step) {
      framer.feed(std::string_view(text).substr(at, step), 10, sink);
    }
    EXPECT_EQ(sink.seen, (Lines{"aaaaaaaaaa", "<too large>", "<too large>", "d"})) << step;
  }
}

TEST(LineFramer, TooLargeIsSaidOnceTheLimitIsPassedAndNothingIsKept) {
  LinePool pool(1 << 20);
  LineFramer framer(pool, kPartial);
  Recorded sink;
  framer.feed(std::string(100'000, 'x'), 100'000, sink);
  EXPECT_TRUE(sink.seen.empty());
  EXPECT_GE(pool.used(), 100'000U);
  framer.feed("x", 100'000, sink);
  EXPECT_EQ(sink.seen, Lines{"<too large>"});
  EXPECT_EQ(pool.used(), 0U);
  framer.feed(std::string(1'000'000, 'x'), 100'000, sink);
  EXPECT_EQ(pool.used(), 0U);
  framer.end(sink);
  EXPECT_EQ(sink.seen, Lines{"<too large>"});
}

TEST(LineFramer, ShortUnfinishedLineTakesNoShareAndALongOneGivesItsOwnBack) {
  LinePool pool(1 << 20);
  LineFramer framer(pool, kPartial);
  Recorded sink;
  framer.feed(std::string(kPartial, 'x'), 1 << 20, sink);
  EXPECT_FALSE(framer.holds_share());
  framer.feed("x", 1 << 20, sink);
  EXPECT_TRUE(framer.holds_share());
  EXPECT_GT(pool.used(), kPartial);
  framer.feed("\nrest", 1 << 20, sink);
  EXPECT_FALSE(framer.holds_share());
  EXPECT_EQ(pool.used(), 0U);
  ASSERT_EQ(sink.seen.size(), 1U);
  EXPECT_EQ(sink.seen[0], std::string(kPartial + 1, 'x'));
}

TEST(LineFramer, RoomBoundsWhatAFramerIsFed) {
  constexpr std::size_t kLine = 64 << 10;
  LinePool pool(kLine + (8 << 10));
  LineFramer oldest(pool, kPartial);
  LineFramer other(pool, kPartial);
  Recorded sink;
  EXPECT_EQ(oldest.room(kLine, 16 << 10), 16U << 10);
  oldest.feed(std::string(8 << 10, 'a'), kLine, sink);
  // The other one must leave the oldest what it may need; what it keeps itself is always there.
  std::size_t fed = 0;
  while (const std::size_t room = other.room(kLine, 16 << 10)) {
    other.feed(std::string(room, 'b'), kLine, sink);
    fed += room;
  }
  EXPECT_GE(fed, kPartial);
  EXPECT_LE(fed, 8U << 10);
  EXPECT_EQ(other.room(kLine, 1), 0U);
  for (int turn = 0; turn < 7; ++turn) {
    ASSERT_EQ(oldest.room(kLine, 8 << 10), 8U << 10);
    oldest.feed(std::string(8 << 10, 'a'), kLine, sink);
  }
  oldest.feed("\n", kLine, sink);
  EXPECT_EQ(sink.seen.back().size(), kLine);
  // Now it is the oldest itself.
  while (fed < kLine) {
    const std::size_t room = std::min<std::size_t>(other.room(kLine, 16 << 10), kLine - fed);
    ASSERT_GT(room, 0U);
    other.feed(std::string(room, 'b'), kLine, sink);
    fed += room;
  }
  other.feed("\n", kLine, sink);
  EXPECT_EQ(sink.seen.back(), std::string(kLine, 'b'));
  EXPECT_EQ(pool.used(), 0U);
}

TEST(LineFramer, LineThatFindsNoRoomIsSkippedToItsEnd) {
  LinePool pool(8 << 10);
  LineFramer first(pool, kPartial);
  LineFramer second(pool, kPartial);
  Recorded sink;
  first.feed(std::string(5000, 'a'), 8 << 10, sink);
  second.feed(std::string(5000, 'b') + "\nnext\n", 8 << 10, sink);
  EXPECT_EQ(sink.seen, (Lines{std::string(5000, 'b'), "next"})) << "a whole line needs no room";
  sink.seen.clear();
  second.feed(std::string(5000, 'b'), 8 << 10, sink);
  EXPECT_EQ(sink.seen, Lines{"<no room>"});
  second.feed("more\nnext\n", 8 << 10, sink);
  EXPECT_EQ(sink.seen, (Lines{"<no room>", "next"}));
}

TEST(LineFramer, AbandonedLineIsSkippedToItsEnd) {
  LinePool pool(1 << 20);
  LineFramer framer(pool, kPartial);
  Recorded sink;
  framer.feed(std::string(5000, 'a'), 8 << 10, sink);
  framer.abandon();
  EXPECT_EQ(pool.used(), 0U);
  framer.feed("aaa\nnext\n", 8 << 10, sink);
  EXPECT_EQ(sink.seen, Lines{"next"});
}

TEST(LineFramer, SinkCanStopItBehindALine) {
  LinePool pool(1 << 20);
  LineFramer framer(pool, kPartial);
  Recorded sink;
  sink.go_on = false;
  const std::string text = "first\nsecond\n";
  EXPECT_EQ(framer.feed(text, 100, sink), 6U);
  EXPECT_EQ(framer.feed(text.substr(6), 100, sink), 7U);
  EXPECT_EQ(sink.seen, (Lines{"first", "second"}));
}

TEST(LineFramer, LimitThatIsLoweredMeanwhileHoldsForTheLineInHand) {
  LinePool pool(1 << 20);
  LineFramer framer(pool, kPartial);
  Recorded sink;
  framer.feed("0123456789", 100, sink);
  framer.feed("x\nnext\n", 5, sink);
  EXPECT_EQ(sink.seen, (Lines{"<too large>", "next"}));
}

}  // namespace
}  // namespace run_recorder
