#include "run/names.h"

#include <gtest/gtest.h>

#include <string>

namespace run_recorder {
namespace {

TEST(Names, AnEventTypeBeginsWithALetterAndIsLowerCase) {
  for (const char* const type : {"a", "run_started", "tool.call_2"}) EXPECT_TRUE(is_event_type(type)) << type;
  EXPECT_TRUE(is_event_type(std::string(64, 'a')));
  for (const char* const type : {"", "1a", "_a", ".a", "Run", "a-b", "a b", "\xC3\xA4"}) {
    EXPECT_FALSE(is_event_type(type)) << type;
  }
  EXPECT_FALSE(is_event_type(std::string(65, 'a')));
}

TEST(Names, ATablePrefixIsLowerCaseAndMayBeEmpty) {
  for (const char* const prefix : {"", "council_ex_", "_a", "a1"}) EXPECT_TRUE(is_table_prefix(prefix)) << prefix;
  EXPECT_TRUE(is_table_prefix(std::string(30, 'a')));
  for (const char* const prefix : {"1a", "Big", "a.b", "a\"b", "a "}) EXPECT_FALSE(is_table_prefix(prefix)) << prefix;
  EXPECT_FALSE(is_table_prefix(std::string(31, 'a')));
}

TEST(Names, ANameHas1To255Bytes) {
  EXPECT_FALSE(is_name(""));
  EXPECT_TRUE(is_name(std::string(255, 'a')));
  EXPECT_FALSE(is_name(std::string(256, 'a')));
}

}  // namespace
}  // namespace run_recorder
