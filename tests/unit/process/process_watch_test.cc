#include "process/process_watch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "children.h"

namespace run_recorder {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::chrono::seconds kPatience{120};

class ProcessWatchTest : public testing::Test {
 protected:
  ProcessWatch::OnEnd on_end() {
    return [this](const ProcessIdentity& identity) {
      const std::lock_guard lock(mutex_);
      ended_.push_back(identity);
      changed_.notify_all();
    };
  }
  // Waits until so many have ended.
  std::vector<ProcessIdentity> ended(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return ended_.size() >= count; });
    return ended_;
  }
  // Everything named before has been looked at once a process that ended before is told of.
  void settle(ProcessWatch& watch) {
    const std::size_t before = ended(0).size();
    watch.watch(absent_);
    ended(before + 1);
    const std::lock_guard lock(mutex_);
    ended_.erase(std::find(ended_.begin(), ended_.end(), absent_));
  }
  static ProcessIdentity with_last_field(const ProcessIdentity& identity, const std::string& value) {
    return identity.substr(0, identity.rfind(':') + 1) + value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ProcessIdentity> ended_;  // guarded by mutex_
  const ProcessIdentity absent_ = with_last_field(identify(getpid()), "absent");
};

TEST_F(ProcessWatchTest, TellsOnceWhenAProcessEnds) {
  ProcessWatch watch(10, on_end());
  Child child;
  const ProcessIdentity identity = identify(child.pid());
  for (int i = 0; i < 3; ++i) watch.watch(identity);
  settle(watch);
  EXPECT_THAT(ended(0), IsEmpty());
  EXPECT_EQ(watch.counts().watched, 1U);
  child.kill_only();
  EXPECT_THAT(ended(1), ElementsAre(identity));
  settle(watch);
  EXPECT_THAT(ended(1), ElementsAre(identity));
  EXPECT_EQ(watch.counts().watched, 0U);
}

TEST_F(ProcessWatchTest, TellsOfOneThatHasEndedBefore) {
  Child child;
  const ProcessIdentity identity = identify(child.pid());
  child.end();
  ProcessWatch watch(10, on_end());
  watch.watch(identity);
  EXPECT_THAT(ended(1), ElementsAre(identity));
  // An event that names it later may be of a run that is younger than the first call.
  watch.watch(identity);
  EXPECT_THAT(ended(2), ElementsAre(identity, identity));
}

TEST_F(ProcessWatchTest, ALaterProcessWithThePidIsNotTheOne) {
  ProcessWatch watch(10, on_end());
  const ProcessIdentity earlier = with_last_field(identify(getpid()), "1");
  watch.watch(earlier);
  EXPECT_THAT(ended(1), ElementsAre(earlier));
  EXPECT_EQ(watch.counts().watched, 0U);
}

TEST_F(ProcessWatchTest, WhatCannotBeSeenFromHereIsIgnored) {
  ProcessWatch watch(10, on_end());
  const ProcessIdentity self = identify(getpid());
  watch.watch("");
  watch.watch("no identity");
  watch.watch("0123456789abcdef:0123456789abcdef:1:" + std::to_string(getpid()) + ":1");
  settle(watch);
  EXPECT_THAT(ended(0), IsEmpty());
  EXPECT_EQ(watch.counts().watched, 0U);
  EXPECT_EQ(watch.counts().unwatched, 0U);
}

TEST_F(ProcessWatchTest, HoldsNoMoreThanItMayAndCountsTheRest) {
  ProcessWatch watch(2, on_end());
  std::vector<Child> children(3);
  for (const Child& child : children) watch.watch(identify(child.pid()));
  EXPECT_EQ(watch.counts().watched, 2U);
  EXPECT_EQ(watch.counts().unwatched, 1U);
  const ProcessIdentity first = identify(children[0].pid());
  children[0].kill_only();
  EXPECT_THAT(ended(1), ElementsAre(first));
  watch.watch(identify(children[2].pid()));  // there is room again
  const ProcessIdentity third = identify(children[2].pid());
  children[2].kill_only();
  EXPECT_THAT(ended(2), ElementsAre(first, third));
}

TEST_F(ProcessWatchTest, CountsProcessesItHasNoDescriptorFor) {
  ProcessWatch watch(10, on_end());
  Child child;
  const ProcessIdentity identity = identify(child.pid());
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const rlimit none{0, files.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  watch.watch(identity);
  // Nothing of the fixture: a sanitizer needs descriptors for its look at an object with virtual functions.
  for (int tries = 0; watch.counts().unwatched == 0 && tries < 60'000; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  setrlimit(RLIMIT_NOFILE, &files);
  EXPECT_EQ(watch.counts().unwatched, 1U);
  watch.watch(identity);
  child.kill_only();
  EXPECT_THAT(ended(1), ElementsAre(identity));
}

TEST_F(ProcessWatchTest, NothingIsToldAfterStop) {
  ProcessWatch watch(10, on_end());
  Child child;
  const ProcessIdentity identity = identify(child.pid());
  watch.watch(identity);
  watch.stop();
  child.end();
  watch.watch(identity);
  EXPECT_THAT(ended(0), IsEmpty());
}

std::chrono::nanoseconds cpu_time() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

std::size_t open_files() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

constexpr std::size_t kThousands = 10'000;

// A child that costs the kernel little: it shares the memory of its parent, and only sleeps.
pid_t sleeping_child() {
  constexpr std::size_t kStack = 8 << 10;
  static std::vector<std::unique_ptr<char[]>> stacks;
  char* const stack = stacks.emplace_back(new char[kStack]).get();
  const auto sleep = [](void*) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true) pause();
    return 0;
  };
  return clone(sleep, stack + kStack, CLONE_VM | SIGCHLD, nullptr);
}

// As many as the machine lets us have, up to 10,000: a descriptor each, and nothing to do while they live.
TEST_F(ProcessWatchTest, ThousandsAreWatchedWithoutWork) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "children that share their parent's memory are nothing a sanitizer can follow";
#endif
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const rlimit raised{files.rlim_max, files.rlim_max};
  setrlimit(RLIMIT_NOFILE, &raised);
  const std::size_t wanted = std::min<std::size_t>(kThousands, files.rlim_max / 2);
  ProcessWatch watch(wanted + 1, on_end());
  // Another process makes them, which does not keep them as zombies, and tells their pids through a pipe.
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  UniqueFd read_end(pipe_fds[0]);
  UniqueFd write_end(pipe_fds[1]);
  const Child maker([&] {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = 1;
    for (std::size_t i = 0; pid > 0; ++i) {
      pid = i < wanted ? sleeping_child() : 0;  // 0 and -1: there are no more
      if (write(write_end.get(), &pid, sizeof pid) != sizeof pid) _exit(1);
    }
  });
  write_end.reset();
  std::vector<pid_t> pids;
  std::vector<ProcessIdentity> identities;
  pid_t pid = 0;
  while (read(read_end.get(), &pid, sizeof pid) == sizeof pid && pid > 0) {
    pids.push_back(pid);
    identities.push_back(identify(pid));
  }
  ASSERT_GE(identities.size(), std::min<std::size_t>(wanted, 100));
  const std::size_t files_before = open_files();
  for (const ProcessIdentity& identity : identities) watch.watch(identity);
  settle(watch);
  EXPECT_EQ(open_files() - files_before, identities.size());
  EXPECT_EQ(watch.counts().watched, identities.size());

  const auto begin = cpu_time();
  pollfd nothing{read_end.get(), 0, 0};
  poll(&nothing, 0, 1'000);  // time for what should not happen: a look at each of them
  const auto idle = cpu_time() - begin;
  EXPECT_LT(idle, std::chrono::milliseconds(20));
  for (const ProcessIdentity& identity : identities) watch.watch(identity);
  const auto again = cpu_time() - begin - idle;
  std::cout << identities.size() << " watched: idle " << idle.count() / 1000
            << " us of CPU in a second, all named again " << again.count() / 1000 << " us\n";
  for (const pid_t child : pids) kill(child, SIGKILL);
  std::vector<ProcessIdentity> told = ended(identities.size());
  std::sort(told.begin(), told.end());
  std::sort(identities.begin(), identities.end());
  EXPECT_TRUE(told == identities);
  EXPECT_EQ(watch.counts().watched, 0U);
}

}  // namespace
}  // namespace run_recorder
