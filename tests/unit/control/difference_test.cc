// In what a row that is there differs from one that comes.
#include "control/difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

TEST(Difference, IsEmptyWhereTheValuesAreEqualAsJson) {
  EXPECT_EQ(first_difference(R"({"a":1.0,"b":{"x":1,"y":"é"},"c":null})", R"({"b":{"y":"\u00e9","x":1},"a":1})"), "");
  EXPECT_EQ(first_difference("{}", R"({"c":null})"), "");
}

TEST(Difference, NamesTheFirstMemberWithBothValues) {
  EXPECT_EQ(first_difference(R"({"a":1,"b":"x","c":2})", R"({"c":3,"b":"y","a":1})"),
            R"(b is "y" here and "x" in the import)");
  EXPECT_EQ(first_difference(R"({"a":null})", R"({"a":7})"), "a is 7 here and null in the import");
  EXPECT_EQ(first_difference(R"({"a":1})", R"({"a":1,"more":true})"), "more is true here and null in the import");
}

TEST(Difference, ShortensLongValuesBetweenCharacters) {
  std::string text = R"({"a":")";
  for (int i = 0; i < 1'000; ++i) text += "é";
  const std::string words = first_difference(text + R"("})", R"({"a":{}})");
  EXPECT_THAT(words, EndsWith("… in the import"));
  EXPECT_THAT(words, StartsWith(R"(a is {} here and "éééé)"));
  EXPECT_LT(words.size(), 120U);
}

}  // namespace
}  // namespace run_recorder
