#include "spool/crc32c.h"

#include <gtest/gtest.h>

#include <string>

namespace run_recorder {
namespace {

TEST(Crc32c, HasTheKnownValues) {
  EXPECT_EQ(crc32c(0, ""), 0U);
  EXPECT_EQ(crc32c(0, "123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(0, std::string(32, '\0')), 0x8a9136aaU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(0, std::string(32, '\xff')), 0x62a8ab43U);
}

TEST(Crc32c, InstructionAndTablesAgree) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    bytes.push_back(static_cast<char>(i * 37));
    EXPECT_EQ(crc32c(7, bytes), crc32c_by_tables(7, bytes));
  }
}

TEST(Crc32c, ContinuesFromAnEarlierChecksum) {
  EXPECT_EQ(crc32c(crc32c(0, "12345"), "6789"), crc32c(0, "123456789"));
}

}  // namespace
}  // namespace run_recorder
