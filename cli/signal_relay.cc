#include "cli/signal_relay.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstring>

namespace run_recorder {
namespace {

constexpr int kRelayed[] = {SIGHUP,  SIGINT,  SIGQUIT,   SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP,
                            SIGCONT, SIGALRM, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR,  SIGURG};

// For a key, a resized window or a hangup the kernel signals the whole foreground group. It signals a session's
// leader alone when the line hangs up, and a timer's owner.
bool is_terminals_doing(const signalfd_siginfo& info) {
  if (info.ssi_code != SI_KERNEL) return false;
  switch (info.ssi_signo) {
    case SIGINT:
    case SIGQUIT:
    case SIGTSTP:
    case SIGWINCH:
    case SIGCONT:
      return true;
    case SIGHUP:
      return ::getsid(0) != ::getpid();
    default:
      return false;
  }
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

SignalRelay::SignalRelay() {
  sigemptyset(&relayed_);
  for (const int signal : kRelayed) {
    if (!is_ignored(signal)) sigaddset(&relayed_, signal);
  }
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) {
    if (!is_ignored(signal)) sigaddset(&relayed_, signal);
  }
  sigaddset(&relayed_, SIGCHLD);
  // A caller that ignores SIGCHLD would leave us without the command's exit status.
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  ::sigaction(SIGCHLD, &plain, &caller_child_action_);
  // SIGPIPE and SIGXFSZ are blocked, not ignored: writes fail, with EPIPE and EFBIG, and the command does not inherit
  // it.
  sigset_t blocked = relayed_;
  sigaddset(&blocked, SIGPIPE);
  sigaddset(&blocked, SIGXFSZ);
  ::sigprocmask(SIG_BLOCK, &blocked, &caller_mask_);
  fd_.reset(::signalfd(-1, &relayed_, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd_) throw StartError(kExitOther, system_error_of("signalfd").message);
}

SignalRelay::~SignalRelay() {
  // What came and was not taken, as the SIGPIPE of a write that nobody read, is not to end us now.
  sigset_t blocked = relayed_;
  sigaddset(&blocked, SIGPIPE);
  sigaddset(&blocked, SIGXFSZ);
  constexpr timespec kNow{0, 0};
  while (::sigtimedwait(&blocked, nullptr, &kNow) > 0) {
  }
  ::sigprocmask(SIG_SETMASK, &caller_mask_, nullptr);
  ::sigaction(SIGCHLD, &caller_child_action_, nullptr);
}

std::vector<SignalRelay::Arrival> SignalRelay::arrivals() {
  std::vector<Arrival> all;
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    all.push_back({static_cast<int>(info.ssi_signo), is_terminals_doing(info)});
  }
  return all;
}

void SignalRelay::restore_in_child() const {
  ::sigaction(SIGCHLD, &caller_child_action_, nullptr);
  ::sigprocmask(SIG_SETMASK, &caller_mask_, nullptr);
}

void SignalRelay::die_by(int signal) {
  // The command's core, where there is one, is the one that matters.
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  ::sigaction(signal, &plain, nullptr);
  ::kill(::getpid(), signal);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
}

bool asks_to_stop(int signal) {
  return signal == SIGHUP || signal == SIGINT || signal == SIGQUIT || signal == SIGTERM;
}

std::string signal_name(int signal) {
  if (const char* name = ::sigabbrev_np(signal); name != nullptr) return std::string("SIG") + name;
  if (signal == SIGRTMIN) return "SIGRTMIN";
  if (signal > SIGRTMIN && signal <= SIGRTMAX) return fmt::format("SIGRTMIN+{}", signal - SIGRTMIN);
  return fmt::format("signal {}", signal);
}

}  // namespace run_recorder
