#include "cli/run_log.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;
using Stream = RunLog::Stream;

class RunLogTest : public ::testing::Test {
 protected:
  RunLogTest() {
    char name[] = "/tmp/rr-log-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~RunLogTest() override { std::filesystem::remove_all(folder_); }

  RunLog make(const std::string& run_id = "r1", std::uint64_t max_bytes = kDefaultLogBytes) {
    return RunLog::create(folder_, run_id, max_bytes).value();
  }
  std::string content(const std::string& name = "r1.log") const {
    std::ifstream file(folder_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> found(std::string_view run_id) const {
    std::vector<std::string> names;
    const auto logs = find_logs(folder_, run_id).value();
    for (const FoundLog& log : logs) names.push_back(log.path.substr(folder_.size() + 1));
    return names;
  }

  std::string folder_;
};

TEST(LogNameOf, IsAFilesNameThatIsNeverHidden) {
  EXPECT_EQ(log_name_of("nightly-1.2_~"), "nightly-1.2_~");
  EXPECT_EQ(log_name_of("."), "%2E");
  EXPECT_EQ(log_name_of("../a"), "%2E.%2Fa");
  EXPECT_EQ(log_name_of("a@2"), "a%402");
  const std::string name = log_name_of(std::string(255, '/'));
  EXPECT_EQ(name.size(), 200U);
  EXPECT_NE(name, log_name_of(std::string(254, '/') + "x"));
}

TEST_F(RunLogTest, HoldsBackALineUntilItIsWholeOrItsStreamPauses) {
  RunLog log = make();
  log.write(Stream::kOutput, "a line and ha");
  log.write(Stream::kErrors, "an error\nanother");
  EXPECT_EQ(content(), "an error\n");
  log.write(Stream::kOutput, "lf\n");
  log.pause(Stream::kErrors);
  EXPECT_EQ(content(), "an error\na line and half\nanother");
  log.write(Stream::kErrors, "? ");
  log.finish();
  EXPECT_EQ(content(), "an error\na line and half\nanother? ");
}

TEST_F(RunLogTest, DoesNotHoldBackForEver) {
  RunLog log = make();
  log.write(Stream::kOutput, std::string(100'000, 'x'));
  EXPECT_EQ(content().size(), 100'000U);
}

TEST_F(RunLogTest, IsLockedUntilItIsFinished) {
  RunLog log = make();
  const UniqueFd fd = open_log(log.path()).value();
  EXPECT_TRUE(is_being_written(fd.get()));
  log.finish();
  EXPECT_FALSE(is_being_written(fd.get()));
}

TEST_F(RunLogTest, SaysAtOnceThatItIsFullAndAtTheEndWhatIsMissing) {
  constexpr std::uint64_t kBytes = 4'096;
  RunLog log = make("r1", kBytes);
  const std::string line(99, 'x');
  for (int i = 0; i < 1'000; ++i) log.write(Stream::kOutput, line + "\n");
  EXPECT_TRUE(content().ends_with("x\nrun-recorder: the log is full; its end follows when the command has ended\n"));
  log.write(Stream::kOutput, "the end");
  log.finish();
  const std::string whole = content();
  EXPECT_LE(whole.size(), kBytes);
  EXPECT_TRUE(whole.ends_with("x\nthe end"));
  const std::size_t kept = static_cast<std::size_t>(std::count(whole.begin(), whole.end(), 'x'));
  EXPECT_NE(whole.find(fmt::format("\nrun-recorder: {},{:03} bytes left out here\nx",
                                   (100'000 - kept / 99 * 100) / 1'000, (100'000 - kept / 99 * 100) % 1'000)),
            std::string::npos)
      << whole;
}

TEST_F(RunLogTest, OfALineWithoutEndItKeepsTheBeginningAndTheEnd) {
  RunLog log = make("r1", 4'096);
  log.write(Stream::kOutput, std::string(200'000, 'x'));
  log.finish();
  EXPECT_LE(content().size(), 4'096U);
  EXPECT_GT(content().size(), 3'500U);
  EXPECT_NE(content().find("x\nrun-recorder: "), std::string::npos);
  EXPECT_TRUE(content().ends_with("xxx"));
}

TEST_F(RunLogTest, AreFoundByIdElseByItsBeginningEachTheNewest) {
  for (const char* id : {"a", "a", "ab-1", "ab-2", "ab-2", "a/b"}) make(id);
  std::ofstream(folder_ + "/ab-3.txt");
  std::ofstream(folder_ + "/ab-4@x.log");
  EXPECT_THAT(found("a"), ElementsAre("a@2.log"));
  EXPECT_THAT(found("ab"), ElementsAre("ab-1.log", "ab-2@2.log"));
  EXPECT_THAT(found("a/"), ElementsAre("a%2Fb.log"));
  EXPECT_THAT(found("b"), ElementsAre());
  EXPECT_FALSE(find_logs(folder_ + "/none", "a"));
}

TEST_F(RunLogTest, OnlyAFileIsOne) {
  EXPECT_FALSE(open_log("/dev/zero"));
  EXPECT_FALSE(open_log(folder_));
  std::filesystem::create_symlink("/etc/passwd", folder_ + "/link.log");
  EXPECT_FALSE(open_log(folder_ + "/link.log"));
}

}  // namespace
}  // namespace run_recorder::testing
