#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

namespace run_recorder {
namespace {

// Ends the watching thread; not among the signals an operator sends.
constexpr int kEnd = SIGUSR2;

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, kEnd}) sigaddset(&set, signal);
  return set;
}

}  // namespace

Signals::Signals() {
  ::signal(SIGPIPE, SIG_IGN);
  // As a container's process 1 the daemon inherits orphans, none of which it waits for: the kernel reaps them.
  if (::getpid() == 1) ::signal(SIGCHLD, SIG_IGN);
  const sigset_t set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { watch(); });
}

Signals::~Signals() {
  {
    const MutexLock lock(mutex_);
    ending_ = true;
  }
  pthread_kill(thread_.native_handle(), kEnd);
  thread_.join();
}

void Signals::watch() {
  name_this_thread("signals");
  const sigset_t set = watched();
  constexpr timespec kIdleTurn{5, 0};
  while (true) {
    liveness_.beat();
    const int signal = sigtimedwait(&set, nullptr, &kIdleTurn);
    if (signal < 0) continue;
    const MutexLock lock(mutex_);
    if (ending_) return;
    if (signal == SIGHUP) {
      reload_ = true;
    } else if (signal != kEnd) {
      if (stop_) _exit(0);
      stop_ = true;
    }
    changed_.notify_all();
  }
}

Signals::Wake Signals::wait(std::chrono::milliseconds timeout) {
  MutexLock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] {
    mutex_.assert_held();
    return stop_ || reload_;
  });
  if (stop_) return Wake::kStop;
  if (!reload_) return Wake::kTimeout;
  reload_ = false;
  return Wake::kReload;
}

bool Signals::stop_requested() const {
  const MutexLock lock(mutex_);
  return stop_;
}

}  // namespace run_recorder
