#include "database/pg_watchdog.h"

#include <signal.h>
#include <sys/socket.h>

#include <algorithm>

#include "database/process_deadline.h"

namespace run_recorder {

PgWatchdog& PgWatchdog::shared() {
  static PgWatchdog watchdog;
  return watchdog;
}

PgWatchdog::~PgWatchdog() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::uint64_t PgWatchdog::arm(int socket, std::chrono::milliseconds after) {
  const MutexLock lock(mutex_);
  if (!thread_.joinable()) start();
  const Clock::time_point deadline = std::min(Clock::now() + after, process_deadline());
  watched_.emplace(++last_ticket_, Watched{socket, deadline, false});
  if (deadline < sleeping_until_) wake_.notify_all();
  return last_ticket_;
}

void PgWatchdog::disarm(std::uint64_t ticket) {
  const MutexLock lock(mutex_);
  watched_.erase(ticket);
}

bool PgWatchdog::fired(std::uint64_t ticket) {
  const MutexLock lock(mutex_);
  const auto found = watched_.find(ticket);
  return found != watched_.end() && found->second.fired;
}

void PgWatchdog::apply_process_deadline() {
  const MutexLock lock(mutex_);
  const Clock::time_point last = process_deadline();
  for (auto& [ticket, watched] : watched_) watched.deadline = std::min(watched.deadline, last);
  wake_.notify_all();
}

void PgWatchdog::start() {
  // Signals belong to the threads that wait for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void PgWatchdog::run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    const Clock::time_point now = Clock::now();
    sleeping_until_ = Clock::time_point::max();
    for (auto& [ticket, watched] : watched_) {
      if (watched.fired) continue;
      if (watched.deadline <= now) {
        watched.fired = true;
        ::shutdown(watched.socket, SHUT_RDWR);
      } else {
        sleeping_until_ = std::min(sleeping_until_, watched.deadline);
      }
    }
    if (sleeping_until_ == Clock::time_point::max()) {
      wake_.wait(lock);
    } else {
      wake_.wait_until(lock, sleeping_until_);
    }
  }
}

}  // namespace run_recorder
