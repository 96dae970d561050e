#include "cli/line_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "base/file.h"

namespace run_recorder {
namespace {

class LineReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(::pipe(fds), 0);
    reading_.reset(fds[0]);
    writing_.reset(fds[1]);
  }
  void give(const std::string& bytes) { ASSERT_TRUE(write_all(writing_.get(), bytes)); }

  UniqueFd reading_, writing_;
};

TEST_F(LineReaderTest, LeavesOutAByteOrderMarkBeforeTheFirstLineOnly) {
  LineReader reader(reading_.get(), 100);
  give("\xEF\xBB\xBF{}\n\xEF\xBB\xBF{}\n");
  ASSERT_TRUE(reader.read());
  EXPECT_EQ(reader.next()->text, "{}");
  EXPECT_EQ(reader.next()->text, "\xEF\xBB\xBF{}");
}

TEST_F(LineReaderTest, WaitsForANonBlockingDescriptorInsteadOfEndingOrFailing) {
  ASSERT_EQ(::fcntl(reading_.get(), F_SETFL, O_NONBLOCK), 0);
  LineReader reader(reading_.get(), 100);
  ASSERT_TRUE(reader.read());
  EXPECT_TRUE(reader.wants_input());
  give("one\n");
  ASSERT_TRUE(reader.read());
  EXPECT_EQ(reader.next()->text, "one");
}

TEST_F(LineReaderTest, NumbersLinesAndTakesTheLastWithoutNewline) {
  LineReader reader(reading_.get(), 100);
  give("one\n\nthr");
  ASSERT_TRUE(reader.read());
  EXPECT_EQ(reader.next()->text, "one");
  EXPECT_EQ(reader.next()->text, "");
  EXPECT_FALSE(reader.next());
  give("ee");
  writing_.reset();
  while (reader.wants_input()) ASSERT_TRUE(reader.read());
  const auto last = reader.next();
  ASSERT_TRUE(last);
  EXPECT_EQ(last->text, "three");
  EXPECT_EQ(last->number, 3U);
  EXPECT_TRUE(reader.ended());
  EXPECT_FALSE(reader.next());
}

TEST_F(LineReaderTest, ALineThatIsTooLongIsSkippedToItsEnd) {
  LineReader reader(reading_.get(), 10);
  std::vector<LineReader::Line> lines;
  const auto take = [&] {
    ASSERT_TRUE(reader.read());
    while (auto line = reader.next()) lines.push_back(*line);
  };
  for (int i = 0; i < 5; ++i) {
    give(std::string(50, 'x'));
    take();
  }
  give("\nshort\n0123456789\n01234567890\n");
  take();
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_TRUE(lines[0].too_long);
  EXPECT_EQ(lines[1].text, "short");
  EXPECT_EQ(lines[2].text, "0123456789");
  EXPECT_TRUE(lines[3].too_long);
  EXPECT_EQ(lines[3].number, 4U);
}

TEST_F(LineReaderTest, AnEmptyInputEndsAtOnce) {
  LineReader reader(reading_.get(), 10);
  writing_.reset();
  ASSERT_TRUE(reader.read());
  EXPECT_FALSE(reader.next());
  EXPECT_TRUE(reader.ended());
}

}  // namespace
}  // namespace run_recorder
