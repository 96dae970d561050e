#include "base/json_writer.h"

#include <gtest/gtest.h>

#include <vector>

namespace run_recorder::testing {
namespace {

TEST(JsonWriter, WritesMembersInTheirOrder) {
  JsonWriter out;
  out.text("text", "a\"b");
  out.number("number", -5);
  out.flag("flag", true);
  out.raw("raw", "1.50");
  out.time("time", Timestamp{});
  EXPECT_EQ(std::move(out).object(),
            R"({"text":"a\"b","number":-5,"flag":true,"raw":1.50,"time":"1970-01-01T00:00:00.000000Z"})");
}

TEST(JsonWriter, WritesNullForAbsentValues) {
  JsonWriter out;
  out.maybe_text("a", std::nullopt);
  out.text_or_null("b", "");
  out.json("c", std::nullopt);
  out.time("d", std::optional<Timestamp>());
  out.number("e", std::optional<int>());
  EXPECT_EQ(out.object(), R"({"a":null,"b":null,"c":null,"d":null,"e":null})");
}

TEST(JsonWriter, WritesAnEmptyObject) {
  EXPECT_EQ(JsonWriter().object(), "{}");
}

TEST(JsonList, QuotesItsTexts) {
  EXPECT_EQ(json_list(std::vector<std::string>{"a", "b\n"}), R"(["a","b\n"])");
  EXPECT_EQ(json_list(std::vector<std::string>()), "[]");
}

}  // namespace
}  // namespace run_recorder::testing
