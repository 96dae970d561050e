// Real processes for the tests of identities: ended, zombies, with their pid used again, in PID namespaces of their
// own.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"
#include "process/host.h"

namespace run_recorder {

// A child that runs `body` and then waits to be killed; killed and reaped at the end.
class Child {
 public:
  explicit Child(const std::function<void()>& body = [] {}) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    while (true) pause();
  }
  // A child with this very pid, which must be free. Not forked where that is not permitted.
  static Child with_pid(pid_t pid) {
    clone_args args{};
    args.exit_signal = SIGCHLD;
    args.set_tid = reinterpret_cast<std::uint64_t>(&pid);
    args.set_tid_size = 1;
    const auto cloned = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
    if (cloned == 0) {
      while (true) pause();
    }
    return Child(cloned);
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }

  pid_t pid() const { return pid_; }
  void kill_only() const {
    ::kill(pid_, SIGKILL);
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);  // it is a zombie then
  }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  explicit Child(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

// What `say` says in a process of an ordinary user, one that owns no other process here. Where this one is an
// ordinary user's itself: in this one.
inline std::string as_ordinary_user(const std::function<std::string()>& say) {
  if (geteuid() != 0) return say();
  process::host();  // read once, by whom does not matter
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return "no pipe";
  const UniqueFd read_end(fds[0]);
  UniqueFd write_end(fds[1]);
  constexpr uid_t kNobodys = 54'321;
  const Child viewer([&] {
    const bool dropped = setgroups(0, nullptr) == 0 && setresgid(kNobodys, kNobodys, kNobodys) == 0 &&
                         setresuid(kNobodys, kNobodys, kNobodys) == 0;
    const std::string said = dropped ? say() : "not permitted";
    static_cast<void>(!write(write_end.get(), said.data(), said.size()));
    write_end.reset();
  });
  write_end.reset();
  std::string said(4096, '\0');
  const ssize_t length = read(read_end.get(), said.data(), said.size());
  said.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  return said;
}

// Some processes in a PID namespace of their own, whose /proc/PID/ns no ordinary user may read: kFirst; kSecond and
// kThird, its children; and `inner`, a child of 1 that is process 1 of another namespace within. Empty where this is
// not permitted.
class Namespace {
 public:
  static constexpr int kFirst = 1;
  static constexpr int kSecond = 2;
  static constexpr int kThird = 3;
  static constexpr int kThreaded = 4;
  static constexpr int kInner = 5;
  static constexpr int kEntered = 6;
  static constexpr int kEnteredChild = 7;

  Namespace() {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sockets) != 0) return;
    const int on = 1;
    setsockopt(sockets[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    receive_ = UniqueFd(sockets[0]);
    send_ = UniqueFd(sockets[1]);
    outside_ = std::make_unique<Child>([this] { run_outside(); });
    for (int members = 0; members < 5; ++members) {
      if (!receive_member()) break;
    }
  }
  ~Namespace() {
    // The first process takes all others of its namespace with it.
    if (members_.contains(kFirst)) ::kill(members_[kFirst], SIGKILL);
  }
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;

  bool permitted() const { return members_.contains(kInner); }
  // The pid of one of them here, and in their namespace.
  pid_t outer(int name) const { return members_.at(name); }
  pid_t inner(int name) const { return process::read_proc_status("/proc/" + std::to_string(outer(name)))->pids[1]; }
  // The id, as the processes there see it, of the second thread of kThreaded.
  pid_t second_thread() const {
    const std::string folder = "/proc/" + std::to_string(outer(kThreaded));
    const pid_t first = inner(kThreaded);
    for (const auto& entry : std::filesystem::directory_iterator(folder + "/task")) {
      const Result<process::ProcStatus> status = process::read_proc_status(entry.path().string());
      if (status && status->pids[1] != first) return status->pids[1];
    }
    return 0;
  }
  // A process that is entered into it from outside, with a child there. Their parent is the one that entered; not
  // forked where that is not permitted.
  std::pair<pid_t, pid_t> enter() {
    const UniqueFd space(open(("/proc/" + std::to_string(outer(kFirst)) + "/ns/pid").c_str(), O_RDONLY | O_CLOEXEC));
    entering_ = std::make_unique<Child>([&] {
      if (!space || setns(space.get(), CLONE_NEWPID) != 0) {
        say(0);
        return;
      }
      if (fork() != 0) return;
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      say(kEntered);
      if (fork() == 0) say(kEnteredChild);
    });
    if (!receive_member() || !receive_member()) return {-1, -1};
    return {outer(kEntered), outer(kEnteredChild)};
  }
  // Kills one and waits until its parent has reaped it.
  void kill_and_wait(int name) const {
    ::kill(outer(name), SIGKILL);
    while (::kill(outer(name), 0) == 0) sched_yield();
  }

 private:
  void say(int name) const { static_cast<void>(::send(send_.get(), &name, sizeof name, 0)); }

  [[noreturn]] static void wait_for_death() {
    while (true) pause();
  }

  void run_outside() const {
    // An ordinary user may where it is root of a user namespace.
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
      say(0);
      return;
    }
    if (fork() != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);  // as another user's, for the daemon's user too
    signal(SIGCHLD, SIG_IGN);   // ended children are reaped at once
    say(kFirst);
    for (const int name : {kSecond, kThird}) {
      if (fork() == 0) {
        say(name);
        wait_for_death();
      }
    }
    if (fork() == 0) {
      std::thread second([] { wait_for_death(); });
      say(kThreaded);
      second.join();
    }
    if (unshare(CLONE_NEWPID) == 0 && fork() == 0) say(kInner);
    wait_for_death();
  }

  // Which process here sent it, the kernel says.
  bool receive_member() {
    int name = 0;
    iovec part{&name, sizeof name};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(receive_.get(), &message, 0) != sizeof name || name == 0) return false;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header == nullptr) return false;
    ucred sender{};
    std::memcpy(&sender, CMSG_DATA(header), sizeof sender);
    members_[name] = sender.pid;
    return true;
  }

  UniqueFd receive_;
  UniqueFd send_;
  std::unique_ptr<Child> outside_;
  std::unique_ptr<Child> entering_;
  std::map<int, pid_t> members_;
};

}  // namespace run_recorder
