#include "store/paging.h"

#include <gtest/gtest.h>

#include <limits>

namespace run_recorder {
namespace {

constexpr std::string_view kUrlSafe = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

TEST(PageCursor, ComesBackAsThePlaceItWasMadeFrom) {
  std::string every_byte;
  for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
  for (const std::string& id :
       {std::string("r"), std::string("a|b"), std::string("|"), std::string("ünï"), every_byte}) {
    const std::string cursor = encode_cursor({"2026-11-28T22:00:00.000001Z", id});
    EXPECT_EQ(cursor.find_first_not_of(kUrlSafe), std::string::npos) << cursor;
    const auto place = decode_cursor(cursor);
    ASSERT_TRUE(place) << cursor;
    EXPECT_EQ(place->time, "2026-11-28T22:00:00.000001Z");
    EXPECT_EQ(place->id, id);
  }
}

TEST(PageCursor, RefusesMalformedCursors) {
  EXPECT_FALSE(decode_cursor(""));
  EXPECT_FALSE(decode_cursor("%20"));
  EXPECT_FALSE(decode_cursor(encode_cursor({"2026", "r"}) + "="));
  for (const std::string bytes : {"2026-11-28", "|r", "2026-11-28|", "yesterday|r", "202|r"}) {
    EXPECT_FALSE(decode_cursor(encode_id_cursor(bytes))) << bytes;
  }
}

TEST(IdCursor, ComesBackAsTheId) {
  for (const std::string id : {"", "r", "run-1", "ünï", "a/b c"}) {
    const std::string cursor = encode_id_cursor(id);
    EXPECT_EQ(cursor.find_first_not_of(kUrlSafe), std::string::npos) << cursor;
    EXPECT_EQ(decode_id_cursor(cursor), id);
  }
}

TEST(IdCursor, RefusesForeignCharactersAndNul) {
  EXPECT_FALSE(decode_id_cursor("a b"));
  EXPECT_FALSE(decode_id_cursor("ab+c"));
  EXPECT_FALSE(decode_id_cursor(encode_id_cursor(std::string_view("a\0b", 3))));
}

TEST(NumberCursor, IsDecimalDigitsFromZeroToTheLargest) {
  EXPECT_EQ(decode_number_cursor(""), 0);
  EXPECT_EQ(decode_number_cursor("0"), 0);
  EXPECT_EQ(decode_number_cursor("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  for (const std::string_view text : {"-1", "9223372036854775808", "1x", "x", " 1", "1 ", "+1", "0x1", "1.0"}) {
    EXPECT_FALSE(decode_number_cursor(text)) << text;
  }
}

}  // namespace
}  // namespace run_recorder
