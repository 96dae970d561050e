#include "base/hex.h"

#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

TEST(Hex, ComesBackAsTheSameBytes) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(from_hex(to_hex(all)), all);
  EXPECT_EQ(to_hex(std::string_view("\x00\xfe", 2)), "00fe");
}

TEST(Hex, TakesDigitsOfEitherCase) {
  EXPECT_EQ(from_hex("4a4A"), "JJ");
  EXPECT_EQ(from_hex(""), "");
}

TEST(Hex, RefusesAnythingButPairsOfDigits) {
  for (const char* bad : {"4", "4g", "g4", " 4", "4a4", "0x"}) EXPECT_EQ(from_hex(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace run_recorder::testing
