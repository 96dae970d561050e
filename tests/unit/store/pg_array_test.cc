#include "store/pg_array.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace run_recorder::testing {
namespace {

using namespace std::string_literals;

// As array_recv() in the server reads it: dimensions, flags, the elements' type, length and first index, then each
// element's length and bytes.
TEST(PgArray, IsWhatTheServerReads) {
  PgArray texts(PgArray::Type::kText);
  texts.text("a\0b"s);
  texts.text("");
  EXPECT_EQ(std::move(texts).take(),
            "\0\0\0\1"
            "\0\0\0\0"
            "\0\0\0\x19"
            "\0\0\0\2"
            "\0\0\0\1"
            "\0\0\0\3"
            "a\0b"
            "\0\0\0\0"s);

  PgArray numbers(PgArray::Type::kBigint);
  numbers.bigint(-2);
  numbers.null();
  numbers.bigint(std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(std::move(numbers).take(),
            "\0\0\0\1"
            "\0\0\0\1"
            "\0\0\0\x14"
            "\0\0\0\3"
            "\0\0\0\1"
            "\0\0\0\x8"
            "\xff\xff\xff\xff\xff\xff\xff\xfe"
            "\xff\xff\xff\xff"
            "\0\0\0\x8"
            "\x7f\xff\xff\xff\xff\xff\xff\xff"s);

  PgArray flags(PgArray::Type::kBoolean);
  flags.boolean(true);
  flags.boolean(false);
  EXPECT_EQ(std::move(flags).take(),
            "\0\0\0\1"
            "\0\0\0\0"
            "\0\0\0\x10"
            "\0\0\0\2"
            "\0\0\0\1"
            "\0\0\0\1"
            "\1"
            "\0\0\0\1"
            "\0"s);
}

}  // namespace
}  // namespace run_recorder::testing
