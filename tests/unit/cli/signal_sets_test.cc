#include "cli/signal_sets.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <csignal>

#include "base/file.h"

namespace run_recorder {
namespace {

TEST(SignalSetsTest, TellsTheSetsOfAStatusApart) {
  const auto sets = parse_signal_sets(
      "Name:\tsh\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000004000\n"
      "SigBlk:\t0000000000010000\nSigIgn:\t0000000000000004\nSigCgt:\t8000000000000002\n");
  ASSERT_TRUE(sets);
  EXPECT_TRUE(SignalSets::has(sets->pending, SIGTERM));
  EXPECT_FALSE(SignalSets::has(sets->pending, SIGHUP)) << "pending for one thread only";
  EXPECT_TRUE(SignalSets::has(sets->caught, 64));
  EXPECT_TRUE(sets->leaves_to_kernel(SIGTERM));
  for (const int taken : {SIGCHLD, SIGQUIT, SIGINT, 64}) EXPECT_FALSE(sets->leaves_to_kernel(taken)) << taken;
}

TEST(SignalSetsTest, IsEmptyWhereALineIsMissing) {
  EXPECT_FALSE(parse_signal_sets(""));
  EXPECT_FALSE(parse_signal_sets("Name:\tsh\nShdPnd:\t0000000000004000\n"));
}

TEST(SignalSetsTest, ReadsAProcessAnewEachTime) {
  const UniqueFd status(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  const auto before = read_signal_sets(status.get());
  ASSERT_TRUE(before);
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR2);
  ASSERT_EQ(::sigprocmask(SIG_BLOCK, &one, nullptr), 0);
  EXPECT_TRUE(SignalSets::has(read_signal_sets(status.get())->blocked, SIGUSR2));
  ASSERT_EQ(::sigprocmask(SIG_UNBLOCK, &one, nullptr), 0);
  EXPECT_FALSE(SignalSets::has(read_signal_sets(status.get())->blocked, SIGUSR2));
}

}  // namespace
}  // namespace run_recorder
