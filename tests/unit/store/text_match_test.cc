// What people write to find runs, as the databases' conditions want it.
#include "store/text_match.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

TEST(TextMatch, APatternBecomesLike) {
  EXPECT_EQ(like_pattern("nightly-*"), "nightly-%");
  EXPECT_EQ(like_pattern("a?c"), "a_c");
  EXPECT_EQ(like_pattern("100%_\\x"), "100\\%\\_x");
  EXPECT_EQ(like_pattern("a\\*b"), "a*b");
  EXPECT_EQ(like_pattern("a\\\\*"), "a\\\\%");
  EXPECT_EQ(like_pattern("end\\"), "end\\\\");
}

TEST(TextMatch, APatternBecomesGlob) {
  EXPECT_EQ(glob_pattern("nightly-*"), "nightly-*");
  EXPECT_EQ(glob_pattern("a?c"), "a?c");
  EXPECT_EQ(glob_pattern("a[b]"), "a[[]b]");
  EXPECT_EQ(glob_pattern("a\\*b\\?"), "a[*]b[?]");
  EXPECT_EQ(glob_pattern("end\\"), "end\\");
}

TEST(TextMatch, EveryIdWithThePrefixIsBelow) {
  EXPECT_LT(std::string("ab"), above_prefix("ab"));
  EXPECT_LT(std::string("ab\xF0\x9F\x98\x80z"), above_prefix("ab"));
  EXPECT_GT(std::string("ac"), above_prefix("ab"));
}

}  // namespace
}  // namespace run_recorder
