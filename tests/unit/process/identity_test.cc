#include "process/identity.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <time.h>

#include <cstdlib>
#include <cstring>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "children.h"
#include "process/host.h"

namespace run_recorder {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;

// The identity's field (from 0) replaced.
std::string with_field(const std::string& identity, std::size_t field, const std::string& value) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < field; ++i) begin = identity.find(':', begin) + 1;
  return identity.substr(0, begin) + value + identity.substr(std::min(identity.find(':', begin), identity.size()));
}

// Until the clock that start times are taken from has gone on by a tick: only then two processes differ by it.
void wait_for_next_tick() {
  const auto tick = [] {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 100 + now.tv_nsec / 10'000'000;
  };
  const auto begin = tick();
  while (tick() < begin + 2) sched_yield();
}

TEST(Identity, OwnProcessIsAlive) {
  const ProcessIdentity identity = identify(getpid());
  EXPECT_THAT(identity, MatchesRegex("([0-9a-f]{16}|unknown):[0-9a-f]{16}:[0-9]+:[0-9]+:[0-9]+"));
  EXPECT_EQ(check_process(identity), ProcessEvidence::kAlive);
  EXPECT_THAT(describe(identity, ProcessEvidence::kAlive), HasSubstr("is alive"));
}

TEST(Identity, AProcessThatWasKilledIsGone) {
  Child child;
  const ProcessIdentity identity = identify(child.pid());
  EXPECT_EQ(check_process(identity), ProcessEvidence::kAlive);
  child.end();
  EXPECT_EQ(check_process(identity), ProcessEvidence::kGone);
  EXPECT_THAT(describe(identity, ProcessEvidence::kGone), HasSubstr("has ended"));
}

TEST(Identity, AZombieIsGone) {
  Child child;
  const ProcessIdentity identity = identify(child.pid());
  child.kill_only();
  EXPECT_EQ(check_process(identity), ProcessEvidence::kGone);
  // Identified when it is a zombie already: it is still told from a later process with its pid.
  EXPECT_EQ(identify(child.pid()), identity);
}

TEST(Identity, AProcessWhoseFirstThreadEndedIsAlive) {
  Child child([] {
    std::thread([] {
      while (true) pause();
    }).detach();
    syscall(SYS_exit, 0);  // this thread only
  });
  const ProcessIdentity identity = identify(child.pid());
  while (process::read_stat(child.pid())->state != 'Z') sched_yield();
  EXPECT_EQ(check_process(identity), ProcessEvidence::kAlive);
}

TEST(Identity, AnotherStartTimeIsAnotherProcess) {
  const ProcessIdentity identity = identify(getpid());
  EXPECT_EQ(check_process(with_field(identity, 4, "1")), ProcessEvidence::kGone);
}

TEST(Identity, AReusedPidIsRecognised) {
  Child first;
  const pid_t pid = first.pid();
  const ProcessIdentity identity = identify(pid);
  first.end();
  wait_for_next_tick();
  const Child second = Child::with_pid(pid);
  if (second.pid() != pid) GTEST_SKIP() << "a pid cannot be chosen here (it needs CAP_CHECKPOINT_RESTORE)";
  EXPECT_EQ(check_process(identity), ProcessEvidence::kGone);
  EXPECT_EQ(check_process(identify(pid)), ProcessEvidence::kAlive);
}

TEST(Identity, AnEarlierBootIsGone) {
  if (process::host().machine == process::kUnknown) GTEST_SKIP() << "this machine has no machine-id";
  const ProcessIdentity earlier = with_field(identify(getpid()), 1, "0123456789abcdef");
  EXPECT_EQ(check_process(earlier), ProcessEvidence::kGone);
  EXPECT_THAT(describe(earlier, ProcessEvidence::kGone), HasSubstr("earlier boot"));
}

TEST(Identity, AnotherMachineIsNoEvidence) {
  const ProcessIdentity identity = identify(getpid());
  const ProcessIdentity other = with_field(identity, 0, "0123456789abcdef");
  if (process::host().machine == process::kUnknown) {
    EXPECT_EQ(check_process(other), ProcessEvidence::kAlive);  // the same boot is the same machine
  } else {
    EXPECT_EQ(check_process(other), ProcessEvidence::kNone);
  }
  EXPECT_EQ(check_process(with_field(other, 1, "0123456789abcdef")), ProcessEvidence::kNone);
  EXPECT_EQ(check_process(with_field(with_field(identity, 0, "unknown"), 1, "0123456789abcdef")),
            ProcessEvidence::kNone);
  // A machine without an id is recognised by its boot alone.
  EXPECT_EQ(check_process(with_field(identity, 0, "unknown")), ProcessEvidence::kAlive);
}

TEST(Identity, AnotherNamespaceIsNoEvidence) {
  const ProcessIdentity other = with_field(identify(getpid()), 2, "1");
  EXPECT_EQ(check_process(other), ProcessEvidence::kNone);
  EXPECT_THAT(describe(other, ProcessEvidence::kNone), HasSubstr("namespace"));
}

TEST(Identity, APidThatDoesNotExistIsAbsentAndGone) {
  Child child;
  const pid_t pid = child.pid();
  child.end();
  const ProcessIdentity identity = identify(pid);
  EXPECT_THAT(identity, EndsWith(":absent"));
  EXPECT_EQ(check_process(identity), ProcessEvidence::kGone);
  EXPECT_EQ(identify(INT32_MAX), with_field(identity, 3, std::to_string(INT32_MAX)));
}

TEST(Identity, AMalformedIdentityIsNoEvidence) {
  EXPECT_EQ(identify(0), "");
  EXPECT_EQ(identify(-1), "");
  EXPECT_EQ(identify_in_namespace_of(0, 1), "");
  EXPECT_EQ(identify_in_namespace_of(getpid(), 0), "");
  const ProcessIdentity identity = identify(getpid());
  for (const std::string& text : {std::string(), std::string(":"), std::string("::::"), identity + ":1",
                                  identity.substr(0, identity.rfind(':')), with_field(identity, 3, "0"),
                                  with_field(identity, 3, "-1"), with_field(identity, 4, "x"),
                                  with_field(identity, 4, ""), with_field(identity, 4, "99999999999999999999999")}) {
    EXPECT_EQ(check_process(text), ProcessEvidence::kNone) << text;
    EXPECT_FALSE(describe(text, ProcessEvidence::kNone).empty());
  }
}

TEST(Identity, AThreadThatLeadsNoProcessIsNoEvidence) {
  pid_t tid = 0;
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::promise<pid_t> told;
  std::thread thread([&] {
    told.set_value(static_cast<pid_t>(syscall(SYS_gettid)));
    const std::lock_guard wait(mutex);
  });
  tid = told.get_future().get();
  EXPECT_EQ(identify(tid), "");
  lock.unlock();
  thread.join();
}

TEST(Identity, AHiddenProcEntryIsNoEvidence) {
  Child other;
  const ProcessIdentity identity = identify(other.pid());
  Child seer([&] {
    const bool hidden = unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                        mount("proc", "/proc", "proc", 0, "hidepid=2") == 0 && setgroups(0, nullptr) == 0 &&
                        setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0;
    if (!hidden) _exit(77);
    const bool silent = check_process(identity) == ProcessEvidence::kNone && identify(other.pid()).empty() &&
                        check_process(identify(getpid())) == ProcessEvidence::kAlive;
    _exit(silent ? 0 : 1);
  });
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(seer.pid()), &info, WEXITED | WNOWAIT);
  if (info.si_status == 77) GTEST_SKIP() << "mounting a /proc that hides processes is not permitted here";
  EXPECT_EQ(info.si_status, 0);
}

enum class Viewer { kOurselves, kOrdinaryUser };

// As root, and as the packaged daemon, which may not read /proc/PID/ns/pid of others.
class NamespaceIdentity : public testing::TestWithParam<Viewer> {
 protected:
  static ProcessIdentity identity_of(pid_t sender, pid_t worker) {
    const auto ask = [&] { return identify_in_namespace_of(sender, worker); };
    return GetParam() == Viewer::kOrdinaryUser ? as_ordinary_user(ask) : ask();
  }
};

INSTANTIATE_TEST_SUITE_P(SeenBy, NamespaceIdentity, testing::Values(Viewer::kOurselves, Viewer::kOrdinaryUser),
                         [](const testing::TestParamInfo<Viewer>& test) {
                           return test.param == Viewer::kOurselves ? "Ourselves" : "AnOrdinaryUser";
                         });

TEST_P(NamespaceIdentity, AWorkerIsFoundByThePidItsSenderSees) {
  const Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  for (const int worker : {Namespace::kFirst, Namespace::kSecond, Namespace::kThird}) {
    for (const int sender : {Namespace::kFirst, Namespace::kSecond, Namespace::kThird}) {
      const ProcessIdentity identity = identity_of(inside.outer(sender), inside.inner(worker));
      EXPECT_EQ(identity, identify(inside.outer(worker))) << worker << " as seen by " << sender;
      EXPECT_EQ(check_process(identity), ProcessEvidence::kAlive);
    }
  }
}

TEST_P(NamespaceIdentity, AWorkerInADeeperNamespaceIsFoundByItsPidInTheSenders) {
  const Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const pid_t inner = inside.outer(Namespace::kInner);
  const std::vector<std::int32_t> pids = process::read_proc_status("/proc/" + std::to_string(inner))->pids;
  ASSERT_EQ(pids.size(), 3U);
  EXPECT_EQ(pids[2], 1);
  EXPECT_EQ(identity_of(inside.outer(Namespace::kSecond), pids[1]), identify(inner));
  EXPECT_EQ(identity_of(inner, 1), identify(inner));
  // What has this pid in the outer one of the two is not to be seen from the inner one.
  EXPECT_THAT(identity_of(inner, pids[1]), EndsWith(":absent"));
  // And as seen from here, all are what they are.
  EXPECT_EQ(identity_of(getpid(), inner), identify(inner));
}

TEST_P(NamespaceIdentity, SamePidInAnotherNamespaceIsNotTaken) {
  const Namespace one;
  if (!one.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const pid_t pid = one.inner(Namespace::kThird);
  // Threads of a sanitizer take numbers too, now before and now after: try until the same one comes up.
  auto other = std::make_unique<const Namespace>();
  for (int tries = 0; tries < 100 && other->inner(Namespace::kThird) != pid; ++tries) {
    other = std::make_unique<const Namespace>();
  }
  const Namespace& two = *other;
  ASSERT_EQ(two.inner(Namespace::kThird), pid);
  EXPECT_EQ(identity_of(one.outer(Namespace::kSecond), pid), identify(one.outer(Namespace::kThird)));
  EXPECT_EQ(identity_of(two.outer(Namespace::kSecond), pid), identify(two.outer(Namespace::kThird)));
  one.kill_and_wait(Namespace::kThird);
  const ProcessIdentity identity = identity_of(one.outer(Namespace::kSecond), pid);
  EXPECT_THAT(identity, EndsWith(":" + std::to_string(pid) + ":absent"));
  EXPECT_EQ(check_process(identity), ProcessEvidence::kGone);
}

TEST_P(NamespaceIdentity, AThreadThatLeadsNoProcessIsNoEvidence) {
  const Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const pid_t thread = inside.second_thread();
  EXPECT_EQ(identity_of(inside.outer(Namespace::kSecond), thread), "");
}

TEST_P(NamespaceIdentity, ASenderThatEnteredTheNamespaceIsNotTakenForAnother) {
  const Namespace other;
  Namespace inside;
  if (!inside.permitted() || !other.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const auto [entered, child] = inside.enter();
  if (entered < 0) GTEST_SKIP() << "PID namespaces may not be entered here";
  const pid_t worker = inside.inner(Namespace::kThird);
  const ProcessIdentity found = identity_of(entered, worker);
  if (GetParam() == Viewer::kOurselves && geteuid() == 0) {
    EXPECT_EQ(found, identify(inside.outer(Namespace::kThird)));
  } else {
    EXPECT_EQ(found, "");  // it may be in either of the two
  }
  // Those that were entered together, or one from the other, are in one namespace.
  EXPECT_EQ(identity_of(child, inside.inner(Namespace::kEntered)), identify(entered));
  EXPECT_EQ(identity_of(entered, inside.inner(Namespace::kEnteredChild)), identify(child));
  // What nobody has as a pid in any namespace, nobody has in this one.
  EXPECT_THAT(identity_of(entered, 30'000), EndsWith(":30000:absent"));
}

TEST_P(NamespaceIdentity, APidOfAProcessThatEnteredIsNotAbsent) {
  Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const auto [entered, child] = inside.enter();
  if (entered < 0) GTEST_SKIP() << "PID namespaces may not be entered here";
  const Namespace other;
  const ProcessIdentity found = identity_of(inside.outer(Namespace::kSecond), inside.inner(Namespace::kEntered));
  if (GetParam() == Viewer::kOurselves && geteuid() == 0) {
    EXPECT_EQ(found, identify(entered));
  } else {
    EXPECT_EQ(found, "");  // the one that was entered has this pid, in a namespace that cannot be told
  }
  static_cast<void>(child);
}

TEST(NamespaceTranslation, ASenderThatHasEndedSaysNothing) {
  Child sender;
  const pid_t pid = sender.pid();
  sender.end();
  EXPECT_EQ(identify_in_namespace_of(pid, getpid()), "");
}

Sender sender_with(pid_t pid) {
  return identify_sender(pid, process::open_pidfd(pid));
}

TEST(Sender, IsKnownWithItsNamespace) {
  const Sender sender = sender_with(getpid());
  EXPECT_EQ(sender.identity, identify(getpid()));
  EXPECT_EQ(sender.own_pid, getpid());
  EXPECT_TRUE(sender.is_in_our_namespace);
  const Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const Sender second = sender_with(inside.outer(Namespace::kSecond));
  EXPECT_EQ(second.identity, identify(inside.outer(Namespace::kSecond)));
  EXPECT_EQ(second.own_pid, inside.inner(Namespace::kSecond));
  EXPECT_FALSE(second.is_in_our_namespace);
}

TEST(Sender, OneThatHasEndedIsAbsentWhoeverHasItsPidNow) {
  Child child;
  const pid_t pid = child.pid();
  const process::PidfdResult pidfd = process::open_pidfd(pid);
  child.end();
  EXPECT_THAT(identify_sender(pid, pidfd).identity, EndsWith(":absent"));
  const Child later = Child::with_pid(pid);
  if (later.pid() != pid) GTEST_SKIP() << "a pid cannot be chosen here (it needs CAP_CHECKPOINT_RESTORE)";
  EXPECT_THAT(identify_sender(pid, pidfd).identity, EndsWith(":absent"));
}

TEST(Sender, WithoutADescriptorNothingIsKnown) {
  process::PidfdResult none;
  none.error_number = EMFILE;
  EXPECT_EQ(identify_sender(getpid(), none).identity, "");
}

TEST(IdentityCache, GivesWhatIdentifyGives) {
  IdentityCache cache(2);
  Child a;
  Child b;
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(cache.identify_in_namespace_of(sender_with(a.pid()), a.pid()), identify(a.pid()));
    EXPECT_EQ(cache.identify_in_namespace_of(sender_with(a.pid()), b.pid()), identify(b.pid()));
    EXPECT_EQ(cache.identify_in_namespace_of(sender_with(b.pid()), a.pid()), identify(a.pid()));
    EXPECT_EQ(cache.identify_in_namespace_of(sender_with(b.pid()), 0), "");
  }
}

TEST(IdentityCache, DoesNotRememberAProcessThatEnded) {
  IdentityCache cache;
  Child worker;
  const pid_t pid = worker.pid();
  const ProcessIdentity first = cache.identify_in_namespace_of(sender_with(getpid()), pid);
  EXPECT_EQ(check_process(first), ProcessEvidence::kAlive);
  worker.end();
  EXPECT_THAT(cache.identify_in_namespace_of(sender_with(getpid()), pid), EndsWith(":absent"));
  wait_for_next_tick();
  const Child second = Child::with_pid(pid);
  if (second.pid() != pid) GTEST_SKIP() << "a pid cannot be chosen here (it needs CAP_CHECKPOINT_RESTORE)";
  const ProcessIdentity again = cache.identify_in_namespace_of(sender_with(getpid()), pid);
  EXPECT_NE(again, first);
  EXPECT_EQ(check_process(again), ProcessEvidence::kAlive);
}

TEST(IdentityCache, WorksThroughNamespaces) {
  IdentityCache cache;
  const Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  const Sender sender = sender_with(inside.outer(Namespace::kSecond));
  const pid_t pid = inside.inner(Namespace::kThird);
  const ProcessIdentity worker = identify(inside.outer(Namespace::kThird));
  EXPECT_EQ(cache.identify_in_namespace_of(sender, pid), worker);
  EXPECT_EQ(cache.identify_in_namespace_of(sender, pid), worker);
  inside.kill_and_wait(Namespace::kThird);
  EXPECT_THAT(cache.identify_in_namespace_of(sender, pid), EndsWith(":" + std::to_string(pid) + ":absent"));
}

TEST(IdentityCache, AWorkerOfOurNamespaceIsFoundAfterItsSenderEnded) {
  IdentityCache cache;
  Child child;
  const Sender sender = sender_with(child.pid());
  child.end();
  const Child worker;
  EXPECT_EQ(cache.identify_in_namespace_of(sender, worker.pid()), identify(worker.pid()));
  EXPECT_EQ(cache.identify_in_namespace_of(sender, sender.pid), sender.identity);
}

TEST(IdentityCache, ALaterProcessWithTheSendersPidIsNotAsked) {
  const Namespace inside;
  if (!inside.permitted()) GTEST_SKIP() << "PID namespaces are not permitted here";
  IdentityCache cache;
  Sender sender = sender_with(inside.outer(Namespace::kSecond));
  sender.identity = with_field(sender.identity, 4, "1");  // what has the pid now is another process
  EXPECT_EQ(cache.identify_in_namespace_of(sender, inside.inner(Namespace::kThird)), "");
}

// In a time namespace /proc shows start times that are shifted.
TEST(TimeNamespace, AHealthyProcessIsRecognisedAndWrittenTheSame) {
  if (const char* const identity = std::getenv("RR_LOOK_AT")) {  // the daemon in another time namespace
    EXPECT_NE(process::host().boottime_offset.count(), 0);
    EXPECT_EQ(check_process(identity), ProcessEvidence::kAlive);
    EXPECT_EQ(check_process(identify(getpid())), ProcessEvidence::kAlive);
    EXPECT_EQ(check_process(with_field(identity, 4, "1")), ProcessEvidence::kGone);
    // As 0.1.0 wrote it there.
    const std::uint64_t shown = process::read_stat(getppid())->start_ticks;
    EXPECT_EQ(check_process(with_field(identify(getppid()), 4, std::to_string(shown))), ProcessEvidence::kAlive);
    return;
  }
  const std::string identity = identify(getpid());
  for (const char* const offset : {"boottime 864000 0", "boottime 1000 123456789", "boottime -1 0"}) {
    const Child inside([&] {
      unshare(geteuid() == 0 ? CLONE_NEWTIME : CLONE_NEWUSER | CLONE_NEWTIME);
      const UniqueFd file(open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC));
      if (!file || write(file.get(), offset, std::strlen(offset)) < 0) _exit(77);
      if (fork() == 0) {  // its parent stays outside, and lives
        setenv("RR_LOOK_AT", identity.c_str(), 1);
        execl("/proc/self/exe", "process_test", "--gtest_filter=TimeNamespace.*", "--gtest_brief=1", nullptr);
        _exit(1);
      }
      int status = 0;
      wait(&status);
      _exit(WEXITSTATUS(status));
    });
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(inside.pid()), &info, WEXITED | WNOWAIT);
    if (info.si_status == 77) GTEST_SKIP() << "time namespaces are not permitted here";
    EXPECT_EQ(info.si_status, 0) << offset;
  }
}

}  // namespace
}  // namespace run_recorder
