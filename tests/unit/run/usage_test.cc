#include "run/usage.h"

#include <gtest/gtest.h>

#include <string>

namespace run_recorder {
namespace {

JsonText sum(std::optional<JsonText> sums, const std::vector<JsonText>& said) {
  for (const JsonText& one : said) add_usage(sums, one);
  return sums.value_or("none");
}

TEST(Usage, IsAddedByKey) {
  EXPECT_EQ(sum({}, {R"({"a":1,"b":2})", R"({"b":3,"c":-1})"}), R"({"a":1,"b":5,"c":-1})");
  EXPECT_EQ(sum({}, {"{}"}), "none");
  EXPECT_EQ(sum(R"({"input_tokens": 5, "x": 1})", {R"({"input_tokens":1e3})"}), R"({"input_tokens":1005,"x":1})");
}

TEST(Usage, IsAddedExactly) {
  EXPECT_EQ(sum({}, {R"({"usd":0.1})", R"({"usd":0.2})"}), R"({"usd":0.3})");
  EXPECT_EQ(sum({}, {R"({"n":9007199254740993})", R"({"n":1})"}), R"({"n":9007199254740994})");
  std::optional<JsonText> sums;
  for (int i = 0; i < 1'000; ++i) add_usage(sums, R"({"usd":0.001})");
  EXPECT_EQ(sums, R"({"usd":1})");
}

TEST(Usage, SumsThatOverflowADoubleAreNotTaken) {
  EXPECT_EQ(sum(R"({"n":1e308,"m":1})", {R"({"n":1e308,"m":1})"}), R"({"n":1e308,"m":2})");
  EXPECT_EQ(scan_json(sum({}, {R"({"n":1e308})", R"({"n":-1e-308})"}), 4).problem, JsonProblem::kNone);
}

TEST(Usage, LeavesWhatAnApplicationWroteAlone) {
  EXPECT_EQ(sum(R"({"n":"many"})", {R"({"n":1,"m":1})"}), R"({"n":"many","m":1})");
}

TEST(Usage, StaysWithin4KiB) {
  std::optional<JsonText> sums;
  for (int i = 0; i < 1'000; ++i) add_usage(sums, R"({"key)" + std::to_string(i) + R"(":1})");
  EXPECT_LE(sums->size(), kMaxUsageBytes);
  EXPECT_GT(sums->size(), kMaxUsageBytes - 20);
  const std::string long_key(5'000, 'k');
  EXPECT_FALSE(add_usage(sums, R"({")" + long_key + R"(":1})"));
  EXPECT_TRUE(add_usage(sums, R"({"key0":1})"));
}

TEST(Usage, KeysAreComparedDecoded) {
  EXPECT_EQ(sum({}, {R"({"a":1})", R"({"\u0061":1})"}), R"({"a":2})");
}

}  // namespace
}  // namespace run_recorder
