#include "cli/caller.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace run_recorder {
namespace {

constexpr pid_t kEmit = 100;  // its parent is 101, and so on

// A process by its words; the rest follows from them as the kernel would have it.
Caller process(std::vector<std::string> arguments) {
  Caller caller;
  const std::string& program = arguments.front();
  caller.name = program.substr(program.rfind('/') + 1);
  if (caller.name.starts_with('-')) caller.name.erase(0, 1);
  caller.executable = "/usr/bin/" + caller.name;
  caller.arguments = std::move(arguments);
  return caller;
}
Caller called(std::string name, Caller caller) {
  caller.name = std::move(name);
  return caller;
}
Caller background(Caller caller) {
  caller.ignores_sigint = caller.ignores_sigquit = true;
  return caller;
}

const Caller kInit = [] {
  Caller init = process({"/sbin/init"});
  init.name = "systemd";
  init.pid = 1;
  return init;
}();
const Caller kBash = process({"bash"});
const Caller kScript = process({"/bin/bash", "./nightly.sh"});
const Caller kShC = process({"sh", "-c", "emit; work; emit"});
const Caller kPython = process({"python3", "worker.py"});
const Caller kSshd = called("sshd", process({"sshd: user@notty"}));
const Caller kCron = process({"/usr/sbin/cron", "-f"});
const Caller kCronOfJob = called("cron", process({"/usr/sbin/CRON", "-f"}));

// Numbers them from the parent on and gives the place of the one named, from 1; 0: none.
int named(std::vector<Caller> callers) {
  for (std::size_t i = 0; i < callers.size(); ++i) {
    if (callers[i].pid == 0) callers[i].pid = kEmit + 1 + static_cast<pid_t>(i);
  }
  const std::optional<pid_t> pid = lasting_caller(callers);
  return pid ? *pid - kEmit : 0;
}

TEST(LastingCaller, IsTheDirectCaller) {
  EXPECT_EQ(named({kBash, kInit}), 1);
  EXPECT_EQ(named({process({"-bash"}), kSshd, kInit}), 1);
  EXPECT_EQ(named({kScript, kBash, kInit}), 1);
  EXPECT_EQ(named({kPython, kBash, kInit}), 1);
  EXPECT_EQ(named({kPython}), 1) << "whose parent is outside of this PID namespace";
  EXPECT_EQ(named({process({"make", "all"}), kBash, kInit}), 1);
  EXPECT_EQ(named({process({"bash", "-x", "script.sh", "-c"}), kBash, kInit}), 1) << "that -c is the script's";
  EXPECT_EQ(named({process({"bash", "--", "-c"}), kBash, kInit}), 1);
  EXPECT_EQ(named({process({"bash", "-o", "pipefail", "script.sh"}), kBash, kInit}), 1);
}

TEST(LastingCaller, IsNoShellOfOneCommand) {
  for (const std::vector<std::string>& shell :
       std::vector<std::vector<std::string>>{{"sh", "-c", "x"},
                                             {"/bin/sh", "-c", "x"},
                                             {"bash", "-lc", "x"},
                                             {"-bash", "-c", "x"},
                                             {"sh", "-ec", "x"},
                                             {"bash", "-euo", "pipefail", "-c", "x"},
                                             {"bash", "-o", "pipefail", "-c", "x"},
                                             {"bash", "+O", "extglob", "-c", "x"},
                                             {"bash", "--norc", "--rcfile", "f", "-c", "x"},
                                             {"busybox", "sh", "-c", "x"},
                                             {"fish", "--command=x"},
                                             {"/bin/sh", "-s", "unix:cmd"}}) {
    EXPECT_EQ(named({process(shell), kPython, kInit}), 2) << testing::PrintToString(shell);
    EXPECT_EQ(named({process(shell), kInit}), 0) << testing::PrintToString(shell);
  }
  EXPECT_EQ(named({kShC, kShC, kShC, kScript, kInit}), 4);
  EXPECT_EQ(named({kShC, process({"make", "-j2"}), kBash, kInit}), 2);
}

TEST(LastingCaller, IsNoProgramThatRunsOneCommand) {
  for (const char* program : {"timeout", "/usr/bin/timeout", "xargs", "env", "sudo", "flock", "script", "setsid",
                              "find", "run-recorder", "erl_child_setup"}) {
    EXPECT_EQ(named({process({program, "x"}), kScript, kInit}), 2) << program;
  }
  EXPECT_EQ(named({process({"busybox", "timeout", "5", "x"}), kScript, kInit}), 2);
  EXPECT_EQ(named({kShC, process({"npm run job"}), kScript, kInit}), 3);
  EXPECT_EQ(named({called("parallel", process({"perl", "/usr/bin/parallel", "x"})), kScript, kInit}), 2);
  EXPECT_EQ(named({process({"timeout", "9", "sh", "-c", "x"}), kShC, process({"sudo", "x"}), kPython, kInit}), 4);
  EXPECT_EQ(named({called("timeout", process({"/bin/bash", "./timeout"})), kBash, kInit}), 1)
      << "a script of that name";
}

TEST(LastingCaller, IsNoSubshellButTheScriptThatForkedIt) {
  EXPECT_EQ(named({kScript, kScript, kBash, kInit}), 2);
  EXPECT_EQ(named({kScript, kScript, kScript, kInit}), 3);
  EXPECT_EQ(named({kBash, kBash, process({"tmux"}), kInit}), 2);
  EXPECT_EQ(named({kScript, kInit}), 1) << "the script has ended, and what it left behind goes on";
  Caller hidden = kScript;
  hidden.executable.clear();
  EXPECT_EQ(named({hidden, hidden, kBash, kInit}), 2) << "of another user";
  EXPECT_EQ(named({kPython, kPython, kInit}), 1) << "a worker that its master forked";
}

TEST(LastingCaller, SkipsABackgroundScriptThatMayEndFirst) {
  EXPECT_EQ(named({background(kScript), kScript, kBash, kInit}), 3);
  EXPECT_EQ(named({background(kScript), background(kScript), kScript, kBash, kInit}), 4);
  EXPECT_EQ(named({background(kScript), kScript, process({"timeout", "9", "x"}), kPython, kInit}), 4);
  EXPECT_EQ(named({background(kScript), kScript, kInit}), 2) << "better than nothing: a service's script waits";
  EXPECT_EQ(named({background(kScript), background(kScript), kBash, kInit}), 2) << "the script ignores them itself";
  Caller function = kScript, bash = kScript;
  function.ignores_sigquit = bash.ignores_sigquit = true;
  EXPECT_EQ(named({function, bash, kPython, kInit}), 3);
  EXPECT_EQ(named({kScript, bash, kPython, kInit}), 2);
}

TEST(LastingCaller, OfACronJobIsTheProcessThatCronForksForIt) {
  EXPECT_EQ(named({kShC, kCronOfJob, kCron, kInit}), 2);
  EXPECT_EQ(named({kScript, kCronOfJob, kCron, kInit}), 1);
  EXPECT_EQ(named({kCronOfJob, kCron, kInit}), 0) << "the job is this one event";
  Caller first = kCron;
  first.pid = 1;
  EXPECT_EQ(named({kCronOfJob, first}), 0);
  EXPECT_EQ(named({kShC, process({"crond"}), kInit}), 2) << "busybox forks none";
}

TEST(LastingCaller, IsNothingForProcess1OrphansAndCommandsFromElsewhere) {
  EXPECT_EQ(named({}), 0);
  EXPECT_EQ(named({kInit}), 0);
  Caller first = kScript;
  first.pid = 1;
  EXPECT_EQ(named({first}), 0) << "a container's";
  EXPECT_EQ(named({kShC, first}), 0);
  EXPECT_EQ(named({called("systemd", process({"/lib/systemd/systemd", "--user"})), kInit}), 0);
  EXPECT_EQ(named({kSshd, kSshd, kInit}), 0) << "ssh host emit";
  EXPECT_EQ(named({kShC, called("sshd-session", kSshd), kInit}), 0);
}

TEST(ReadCallers, BeginsWithTheParentAndEndsWithProcess1OrTheNamespace) {
  const std::vector<Caller> callers = read_callers();
  if (::getppid() == 0) GTEST_SKIP() << "the parent is in another PID namespace";
  ASSERT_FALSE(callers.empty());
  EXPECT_EQ(callers.front().pid, ::getppid());
  EXPECT_FALSE(callers.front().name.empty());
}

}  // namespace
}  // namespace run_recorder
