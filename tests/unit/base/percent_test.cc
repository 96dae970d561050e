#include "base/percent.h"

#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

TEST(PercentEncoding, LeavesTheUnreservedCharacters) {
  EXPECT_EQ(percent_encode("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(percent_encode("a/b c%?&\xc3\xa9+"), "a%2Fb%20c%25%3F%26%C3%A9%2B");
}

TEST(PercentEncoding, ComesBackAsTheSameText) {
  std::string all;
  for (int byte = 1; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
  EXPECT_EQ(percent_decode("a+b%2b"), "a+b+");
}

TEST(PercentEncoding, RefusesWhatIsIncompleteOrNul) {
  for (const char* bad : {"%", "a%2", "%zz", "%2x", "a%00b"}) EXPECT_EQ(percent_decode(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace run_recorder::testing
