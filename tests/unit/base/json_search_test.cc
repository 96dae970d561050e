#include "base/json_search.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

TEST(JsonSearch, FindsTextWithinStringsHoweverTheyAreWritten) {
  EXPECT_TRUE(json_strings_hold(R"({"errors":[{"message":"No \"space\" left"}]})", "no \"SPACE\""));
  EXPECT_TRUE(json_strings_hold(R"({"message":"\u00c9chec \ud835\udd4f"})", "éCHEC 𝕏"));
  EXPECT_TRUE(json_strings_hold(R"(["ÜBERLAUF"])", "überl"));
  EXPECT_TRUE(json_strings_hold(R"(["ошибка"])", "ОШИБКА"));
  EXPECT_TRUE(json_strings_hold(R"("bare")", "are"));
  EXPECT_TRUE(json_strings_hold(R"(["a\\", "b"])", "b"));
  EXPECT_FALSE(json_strings_hold(R"(["a","b"])", "ab"));
  EXPECT_FALSE(json_strings_hold(R"(["a","b"])", "a\",\"b"));
}

TEST(JsonSearch, KeysAndNumbersAreNoText) {
  const char* const error = R"({"kind" : "exit","message":"ended", "status":137,"nested":{"evidence":["kind of"]}})";
  EXPECT_FALSE(json_strings_hold(error, "message"));
  EXPECT_FALSE(json_strings_hold(error, "evidence"));
  EXPECT_FALSE(json_strings_hold(error, "137"));
  EXPECT_TRUE(json_strings_hold(error, "Kind"));
}

TEST(JsonSearch, WhatIsNoJsonHarmsNothing) {
  for (const char* const text : {"", "\"", "\"a", "\"a\\", "\"\\u00", "[\"\\ud835\"", "\xff\"\xff\""}) {
    EXPECT_FALSE(json_strings_hold(text, "b")) << text;
  }
}

}  // namespace
}  // namespace run_recorder
