#include "spool/segment_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

constexpr Timestamp kNow{std::chrono::seconds{1'000'000}};
constexpr std::uint64_t kBytes = 1000;  // of each segment below
constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

Segment segment(std::uint64_t first, std::uint64_t last, char incarnation = 'a', std::uint64_t bytes = kBytes) {
  Segment made{.first_seq = first, .last_seq = last, .end = spool_format::kSegmentHeaderBytes + bytes};
  made.incarnation.fill(incarnation);
  return made;
}

// Records 1 to 10, 11 to 20 and 21 to 30.
class ThreeSegments : public ::testing::Test {
 protected:
  ThreeSegments() {
    for (const std::uint64_t first : {1U, 11U, 21U}) table_.push(segment(first, first + 9));
  }
  std::optional<std::uint64_t> first_of(const std::optional<Segment>& found) {
    return found ? std::optional(found->first_seq) : std::nullopt;
  }

  SegmentTable table_;
};

TEST_F(ThreeSegments, CountWhatIsPendingByShareOfTheSegmentThatIsReleasedInPart) {
  EXPECT_EQ(table_.pending_bytes(), 3 * kBytes);
  table_.release(5);
  EXPECT_EQ(table_.pending_bytes(), 2 * kBytes + kBytes / 2);
  table_.release(20);
  EXPECT_EQ(table_.pending_bytes(), kBytes);
  EXPECT_EQ(table_.kept_bytes(), 2 * kBytes);
  table_.release(30);
  EXPECT_EQ(table_.pending_bytes(), 0U);
  EXPECT_EQ(table_.total_bytes(), 3 * kBytes);
}

TEST_F(ThreeSegments, ArePendingAgainWhenTheReleaseGoesBack) {
  table_.release(30);
  table_.release(12);
  EXPECT_EQ(table_.released(), 12U);
  EXPECT_EQ(table_.pending_bytes(), kBytes + kBytes * 8 / 10);
  EXPECT_FALSE(table_.last_is_expired(kNow, 0ms));
}

TEST_F(ThreeSegments, ReleaseNothingThatTheyDoNotHold) {
  table_.release(99);
  EXPECT_EQ(table_.released(), 30U);
  ASSERT_TRUE(table_.take_released());
  table_.release(0);
  EXPECT_EQ(table_.released(), 10U) << "what is gone stays released";
}

TEST_F(ThreeSegments, FindTheSegmentOfARecordOrTheNextOne) {
  EXPECT_EQ(first_of(table_.find(0)), 1U);
  EXPECT_EQ(first_of(table_.find(10)), 1U);
  EXPECT_EQ(first_of(table_.find(11)), 11U);
  EXPECT_EQ(first_of(table_.find(30)), 21U);
  EXPECT_FALSE(table_.find(31));
  table_.push(segment(41, 40, 'a', 0));
  EXPECT_FALSE(table_.find(31)) << "one without records holds none";
  table_.push(segment(51, 55));
  EXPECT_EQ(first_of(table_.find(31)), 51U);
}

TEST_F(ThreeSegments, GrowAtTheirEndOnly) {
  table_.release(30);
  table_.grow(spool_format::kSegmentHeaderBytes + 2 * kBytes, 40);
  EXPECT_EQ(table_.last_seq(), 40U);
  EXPECT_EQ(table_.total_bytes(), 4 * kBytes);
  EXPECT_EQ(table_.pending_bytes(), kBytes);
}

TEST_F(ThreeSegments, ReplaceALastOneThatHeldNoRecord) {
  table_.push(segment(31, 30, 'a', 0));
  table_.release(30);
  table_.push(segment(31, 35));
  EXPECT_EQ(table_.segments().size(), 4U);
  EXPECT_EQ(table_.total_bytes(), 4 * kBytes);
  EXPECT_EQ(table_.pending_bytes(), kBytes);
}

TEST_F(ThreeSegments, AreDeletedFromTheOldestOnceReleasedForLongEnough) {
  EXPECT_FALSE(table_.take_expired(kNow, 0ms, kNoLimit)) << "nothing is released";
  table_.release(25);
  EXPECT_FALSE(table_.take_expired(kNow, 1min, kNoLimit)) << "the time begins here";
  EXPECT_FALSE(table_.take_expired(kNow + 59s, 1min, kNoLimit));
  EXPECT_EQ(first_of(table_.take_expired(kNow + 1min, 1min, kNoLimit)), 1U);
  EXPECT_EQ(first_of(table_.take_expired(kNow + 1min, 1min, kNoLimit)), 11U) << "its time began with the first one's";
  EXPECT_FALSE(table_.take_expired(kNow + 1h, 1min, kNoLimit)) << "the last one is not all released";
}

TEST_F(ThreeSegments, AreDeletedEarlierForTheSakeOfSpace) {
  table_.release(30);
  EXPECT_EQ(first_of(table_.take_expired(kNow, 1h, 2 * kBytes)), 1U);
  EXPECT_FALSE(table_.take_expired(kNow, 1h, 2 * kBytes));
  EXPECT_EQ(first_of(table_.take_expired(kNow, 1h, 0)), 11U);
  EXPECT_FALSE(table_.take_expired(kNow, 1h, 0)) << "the last one stays: it may be written to";
}

TEST_F(ThreeSegments, CountTheTimeAnewWhenTheClockIsSetBack) {
  table_.release(30);
  EXPECT_FALSE(table_.take_expired(kNow, 1min, kNoLimit));
  EXPECT_FALSE(table_.take_expired(kNow - 1h, 1min, kNoLimit));
  EXPECT_FALSE(table_.take_expired(kNow - 1h + 59s, 1min, kNoLimit));
  EXPECT_EQ(first_of(table_.take_expired(kNow - 1h + 1min, 1min, kNoLimit)), 1U);
}

TEST_F(ThreeSegments, KeepTheLastOneWhateverIsReleased) {
  table_.release(30);
  EXPECT_TRUE(table_.front_is_released());
  EXPECT_EQ(first_of(table_.take_released()), 1U);
  EXPECT_EQ(first_of(table_.take_released()), 11U);
  EXPECT_FALSE(table_.take_released());
  EXPECT_FALSE(table_.last_is_expired(kNow, 1min));
  EXPECT_TRUE(table_.last_is_expired(kNow + 1min, 1min)) << "a new one may be begun, so that it can go";
}

TEST(SegmentTable, NamesTheFirstRecordOfEachIncarnation) {
  SegmentTable table;
  table.push(segment(1, 10, 'a'));
  table.push(segment(11, 20, 'a'));
  table.push(segment(21, 30, 'b'));
  table.push(segment(31, 30, 'c', 0));
  const auto found = table.incarnations();
  ASSERT_EQ(found.size(), 2U) << "one that holds no record is none";
  EXPECT_EQ(found[0].id, "61616161616161616161616161616161");
  EXPECT_EQ(found[0].first_seq, 1U);
  EXPECT_EQ(found[1].first_seq, 21U);
}

TEST(SegmentTable, EmptyHoldsNothing) {
  SegmentTable table;
  table.release(5);
  EXPECT_EQ(table.released(), 0U);
  EXPECT_EQ(table.pending_bytes(), 0U);
  EXPECT_FALSE(table.find(1));
  EXPECT_FALSE(table.take_released());
  EXPECT_FALSE(table.take_expired(kNow, 0ms, 0));
  EXPECT_FALSE(table.last_is_expired(kNow, 0ms));
}

}  // namespace
}  // namespace run_recorder
