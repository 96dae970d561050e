#include "process/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace run_recorder::process {
namespace {

TEST(Host, IsComplete) {
  EXPECT_TRUE(host().proc_is_ours);
  EXPECT_NE(host().pid_namespace, 0U);
  EXPECT_EQ(host().boot.size(), 16U);
}

TEST(Host, IdsAreShortenedAndAnythingElseIsUnknown) {
  EXPECT_EQ(short_id("3d1219c7c4c5404aaa1f6d2a48adfda4\n"), "3d1219c7c4c5404a");
  EXPECT_EQ(short_id("89425b9d-c460-4c6e-af12-3abd105ddafd\n"), "89425b9dc4604c6e");
  EXPECT_EQ(short_id(""), kUnknown);
  EXPECT_EQ(short_id("uninitialized\n"), kUnknown);
  EXPECT_EQ(short_id("3d1219c7"), kUnknown);
}

TEST(Stat, ReadsNamesWithParenthesesAndNewlines) {
  const std::optional<Stat> stat =
      parse_stat("42 (a) Z 9 (\n) R) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 2 3");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->parent, 7);
  EXPECT_EQ(stat->start_ticks, 987654U);
}

TEST(Stat, RefusesTruncatedText) {
  EXPECT_FALSE(parse_stat(""));
  EXPECT_FALSE(parse_stat("42 (a"));
  EXPECT_FALSE(parse_stat("42 (a) S 7 42"));
}

TEST(Stat, OwnProcessIsRead) {
  const Result<Stat> stat = read_stat(getpid());
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->parent, getppid());
  EXPECT_FALSE(stat->has_ended());
}

TEST(ProcStatus, GivesThePidInEachNamespace) {
  const std::optional<ProcStatus> status =
      parse_proc_status("Name:\tNSpid: 3\nPPid:\t12\nNStgid:\t4711\t5\nNSpid:\t4711\t5\n");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->parent, 12);
  EXPECT_THAT(status->pids, testing::ElementsAre(4711, 5));
  EXPECT_FALSE(parse_proc_status("Name:\tcat\nPPid:\t12\n"));
}

TEST(TimensOffsets, GiveTheBoottimesOffset) {
  using std::chrono::nanoseconds;
  using std::chrono::seconds;
  EXPECT_EQ(parse_boottime_offset("monotonic           5         1\nboottime        864000         7\n"),
            seconds(864'000) + nanoseconds(7));
  EXPECT_EQ(parse_boottime_offset("monotonic           0         0\nboottime            -6 500000000\n"),
            seconds(-6) + nanoseconds(500'000'000));
  EXPECT_EQ(parse_boottime_offset(""), nanoseconds(0));
  EXPECT_EQ(parse_boottime_offset("boottime"), nanoseconds(0));
}

TEST(StartTicks, AreTheInitialTimeNamespaces) {
  using std::chrono::milliseconds;
  using std::chrono::nanoseconds;
  using std::chrono::seconds;
  constexpr milliseconds kTick{10};
  // As the kernel does it: nanoseconds are added and divided without a sign.
  const auto shown = [](std::int64_t start_ns, nanoseconds offset) {
    return static_cast<std::uint64_t>(start_ns + offset.count()) / 10'000'000;
  };
  for (const nanoseconds offset : {nanoseconds(0), nanoseconds(seconds(864'000)), nanoseconds(seconds(-5))}) {
    EXPECT_EQ(initial_start_ticks(shown(8'123'456'789, offset), offset, kTick), 812U);
  }
  // Started before the offset back: the kernel wraps around; and offsets that are no whole ticks.
  for (const nanoseconds offset : {nanoseconds(seconds(-100)), nanoseconds(seconds(7)) + nanoseconds(9'999'999)}) {
    EXPECT_NEAR(static_cast<double>(initial_start_ticks(shown(8'123'456'789, offset), offset, kTick)), 812, 1);
  }
}

TEST(Mountinfo, TellsWhetherProcHidesProcesses) {
  const std::string plain = "22 27 0:21 / /proc rw,nosuid shared:13 - proc proc rw\n";
  const std::string hidden = "23 27 0:22 / /proc rw,nosuid - proc proc rw,gid=30,hidepid=2\n";
  const std::string invisible = "24 27 0:23 / /proc rw - proc proc rw,hidepid=invisible\n";
  const std::string elsewhere = "25 27 0:24 / /mnt/proc rw - proc proc rw,hidepid=2\n";
  EXPECT_FALSE(hides_processes(""));
  EXPECT_FALSE(hides_processes(plain));
  EXPECT_TRUE(hides_processes(hidden));
  EXPECT_TRUE(hides_processes(invisible));
  EXPECT_FALSE(hides_processes(plain + elsewhere));
  EXPECT_TRUE(hides_processes(plain + hidden));
  EXPECT_FALSE(hides_processes(hidden + plain));
  EXPECT_FALSE(hides_processes("26 27 0:24 / /proc rw - proc proc rw,hidepid=0\n"));
}

}  // namespace
}  // namespace run_recorder::process
