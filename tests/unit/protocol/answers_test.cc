#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "protocol/protocol.h"

namespace run_recorder {
namespace {

using nlohmann::json;

TEST(Answers, AckNamesTheLine) {
  EXPECT_EQ(format_ack(1), "{\"acked\":1}\n");
  EXPECT_EQ(format_ack(std::numeric_limits<std::uint64_t>::max()), "{\"acked\":18446744073709551615}\n");
}

TEST(Answers, RefusalNamesLineCodeAndMessage) {
  EXPECT_EQ(format_refusal(7, {RefusalCode::kInvalidEvent, "run_id is missing"}),
            "{\"error\":{\"line\":7,\"code\":\"invalid_event\",\"message\":\"run_id is missing\"}}\n");
}

TEST(Answers, CodesAreTheContracts) {
  EXPECT_EQ(to_string(RefusalCode::kInvalidJson), "invalid_json");
  EXPECT_EQ(to_string(RefusalCode::kTooLarge), "too_large");
  EXPECT_EQ(to_string(RefusalCode::kTooDeep), "too_deep");
  EXPECT_EQ(to_string(RefusalCode::kInvalidEvent), "invalid_event");
  EXPECT_EQ(to_string(RefusalCode::kSpoolFull), "spool_full");
  EXPECT_EQ(to_string(RefusalCode::kUnavailable), "unavailable");
  EXPECT_EQ(to_string(RefusalCode::kForbidden), "forbidden");
}

TEST(Answers, AnyMessageMakesOneLineOfJson) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  for (const std::string& message : {std::string(), all, std::string("a\nb\r\"\\"), std::string("\xC3")}) {
    const std::string answer = format_refusal(3, {RefusalCode::kInvalidJson, message});
    ASSERT_EQ(answer.find('\n'), answer.size() - 1);
    const json parsed = json::parse(answer);
    EXPECT_EQ(parsed.at("error").at("line"), 3);
  }
}

TEST(Answers, LongMessagesAreCutBetweenCharacters) {
  std::string message;
  for (int i = 0; i < 100'000; ++i) message += "ä";
  for (const std::size_t shift : {0u, 1u}) {
    const json parsed = json::parse(format_refusal(1, {RefusalCode::kTooLarge, std::string(shift, 'x') + message}));
    const auto sent = parsed.at("error").at("message").get<std::string>();
    EXPECT_LE(sent.size(), kMaxMessageBytes);
    EXPECT_GT(sent.size(), kMaxMessageBytes - 3);
    EXPECT_TRUE(sent.ends_with("ä…"));
  }
  const std::string exact(kMaxMessageBytes, 'x');
  EXPECT_EQ(json::parse(format_refusal(1, {RefusalCode::kTooLarge, exact})).at("error").at("message"), exact);
}

TEST(TypeFilter, WithoutListsKeepsEverything) {
  Event event;
  event.type = "member_token";
  EXPECT_TRUE(TypeFilter().keeps(event));
  EXPECT_TRUE(TypeFilter({}, {}).keeps(event));
}

TEST(TypeFilter, ExcludeAndIncludeMatchWholeTypes) {
  const std::vector<std::string> listed = {"member_token", "x"};
  Event token, tokens;
  token.type = "member_token";
  tokens.type = "member_tokens";
  EXPECT_FALSE(TypeFilter(listed, {}).keeps(token));
  EXPECT_TRUE(TypeFilter(listed, {}).keeps(tokens));
  EXPECT_TRUE(TypeFilter({}, listed).keeps(token));
  EXPECT_FALSE(TypeFilter({}, listed).keeps(tokens));
}

TEST(TypeFilter, LifecycleTypesAlwaysPass) {
  const std::vector<std::string> types = {"run_queued", "run_started", "run_completed", "run_failed"};
  const std::vector<std::string> other = {"x"};
  for (const std::string& type : types) {
    const auto decoded = decode_event(R"({"type":")" + type + R"(","run_id":"r"})", 64);
    const Event& event = std::get<Event>(decoded);
    EXPECT_TRUE(TypeFilter(types, {}).keeps(event));
    EXPECT_TRUE(TypeFilter({}, other).keeps(event));
  }
}

}  // namespace
}  // namespace run_recorder
