#include "process/own_usage.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/file.h"

namespace run_recorder::testing {
namespace {

TEST(OwnUsage, GrowsWithWhatTheProcessTakes) {
  const OwnUsage before = own_usage();
  std::vector<UniqueFd> files;
  for (int i = 0; i < 3; ++i) files.push_back(open_file("/dev/null", O_RDONLY).value());
  const std::vector<char> touched(64 << 20, 'x');
  const OwnUsage after = own_usage();
  EXPECT_EQ(after.open_files.value(), before.open_files.value() + 3);
  EXPECT_GE(after.virtual_bytes.value(), before.virtual_bytes.value() + touched.size());
  EXPECT_GE(after.resident_bytes.value(), before.resident_bytes.value() + touched.size() / 2);
  EXPECT_LT(after.resident_bytes.value(), after.virtual_bytes.value());
  EXPECT_GE(after.processor_time, before.processor_time);
  EXPECT_GT(after.processor_time.count(), 0);
}

TEST(OwnUsage, KnowsWhenTheProcessStarted) {
  const OwnUsage usage = own_usage();
  EXPECT_LE(usage.started_at.value(), now_utc() + std::chrono::seconds{1});
  EXPECT_GE(usage.started_at.value(), now_utc() - std::chrono::hours{1}) << "no test runs for so long";
  EXPECT_EQ(own_usage().started_at, usage.started_at) << "a clock that is set changes nothing";
}

}  // namespace
}  // namespace run_recorder::testing
