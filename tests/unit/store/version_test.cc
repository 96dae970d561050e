// Which daemon may work with which schema.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "store/migrations.h"

namespace run_recorder {
namespace {

using ::testing::HasSubstr;

TEST(VersionOrder, IsByNumbersNotByDigits) {
  const std::vector<std::string> ascending = {"",  "0.1",   "0.1.1", "0.2.0",  "0.9.9", "0.10.0",
                                              "1", "1.0.1", "1.2",   "1.10.2", "2.0.0"};
  for (std::size_t a = 0; a < ascending.size(); ++a) {
    for (std::size_t b = 0; b < ascending.size(); ++b) {
      EXPECT_EQ(version_less(ascending[a], ascending[b]), a < b) << ascending[a] << " < " << ascending[b];
    }
  }
}

TEST(VersionOrder, TakesAMissingNumberAsZeroAndIgnoresASuffix) {
  for (const auto& [a, b] : {std::pair("1", "1.0.0"), {"", "0.0"}, {"1.2.3", "1.2.3-rc1"}, {"1.2+deb12", "1.2"}}) {
    EXPECT_FALSE(version_less(a, b)) << a << " < " << b;
    EXPECT_FALSE(version_less(b, a)) << b << " < " << a;
  }
}

class SchemaAge : public ::testing::Test {
 protected:
  static Result<void> check(int version, std::string_view oldest_daemon) {
    std::vector<Migration> known(2);
    known[0].version = 1;
    known[1].version = 2;
    return check_schema_age(known, version, oldest_daemon);
  }
};

TEST_F(SchemaAge, OfAnOlderOrTheSameReleaseIsFine) {
  EXPECT_TRUE(check(0, ""));
  EXPECT_TRUE(check(1, "0.1.0"));
  EXPECT_TRUE(check(2, "99.0.0"));
}

TEST_F(SchemaAge, OfANewerReleaseIsFineWhereThatOneSaysSo) {
  EXPECT_TRUE(check(3, RR_VERSION));
  EXPECT_TRUE(check(3, "0.0.1"));
}

TEST_F(SchemaAge, OfANewerReleaseThatExcludesThisOneIsRefusedWithBothVersions) {
  const auto checked = check(3, "99.0.0");
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().kind, ErrorKind::kRefused);
  EXPECT_THAT(checked.error().message, HasSubstr("schema 3"));
  EXPECT_THAT(checked.error().message, HasSubstr("99.0.0"));
  EXPECT_THAT(checked.error().message, HasSubstr(RR_VERSION));
}

}  // namespace
}  // namespace run_recorder
