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

TEST(TextMatch, ANameFitsAPattern) {
  for (const char* const pattern : {"nightly-backup", "nightly-*", "*", "*backup", "n*-b*p", "**y-?ackup*", "*-*"}) {
    EXPECT_TRUE(fits_pattern(pattern, "nightly-backup")) << pattern;
  }
  for (const char* const pattern : {"", "nightly", "Nightly-*", "?", "*backup?", "nightly-*x", "n*-c*"}) {
    EXPECT_FALSE(fits_pattern(pattern, "nightly-backup")) << pattern;
  }
  EXPECT_TRUE(fits_pattern("a?c", "aéc"));
  EXPECT_TRUE(fits_pattern("*?", "\xF0\x9F\x98\x80"));
  EXPECT_FALSE(fits_pattern("??", "é"));
  EXPECT_FALSE(fits_pattern("*??", "é"));
  EXPECT_TRUE(fits_pattern("a\\*b", "a*b"));
  EXPECT_FALSE(fits_pattern("a\\*b", "a-b"));
  EXPECT_TRUE(fits_pattern("end\\", "end\\"));
  EXPECT_TRUE(fits_pattern("", ""));
  EXPECT_FALSE(fits_pattern("?", ""));
}

TEST(TextMatch, ANameWithoutWildcardsIsItself) {
  EXPECT_TRUE(fits_name("DOM\\job", "DOM\\job"));
  EXPECT_FALSE(fits_name("DOM\\job", "DOMjob"));
  EXPECT_TRUE(fits_name("DOM\\\\j*", "DOM\\job")) << "in a pattern \\ is written before a \\";
  EXPECT_FALSE(is_pattern("nightly"));
  EXPECT_TRUE(is_pattern("night?y"));
}

}  // namespace
}  // namespace run_recorder
