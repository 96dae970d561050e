// Ends calls on sockets whose server never answers: libpq has no deadline of its own. One thread for
// the whole process, started with the first deadline; it sleeps until the earliest one. Safe from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <thread>

#include "base/mutex.h"

namespace run_recorder {

class PgWatchdog {
 public:
  static PgWatchdog& shared();
  PgWatchdog() = default;
  PgWatchdog(const PgWatchdog&) = delete;
  PgWatchdog& operator=(const PgWatchdog&) = delete;
  ~PgWatchdog();

  // Shuts the socket down once `after` has passed. The descriptor must stay open until disarm() has returned: give a
  // duplicate that is the caller's own, because libpq closes its descriptor by itself when a connection breaks.
  std::uint64_t arm(int socket, std::chrono::milliseconds after);
  // The descriptor is not touched after this.
  void disarm(std::uint64_t ticket);
  // Whether the socket was shut down.
  bool fired(std::uint64_t ticket);
  // Takes over a changed process_deadline().
  void apply_process_deadline();

 private:
  using Clock = std::chrono::steady_clock;
  struct Watched {
    int socket = -1;
    Clock::time_point deadline{};
    bool fired = false;
  };
  void start() REQUIRES(mutex_);
  void run();

  Mutex mutex_;
  Condition wake_;
  std::map<std::uint64_t, Watched> watched_ GUARDED_BY(mutex_);
  std::uint64_t last_ticket_ GUARDED_BY(mutex_) = 0;
  Clock::time_point sleeping_until_ GUARDED_BY(mutex_) = Clock::time_point::max();
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // started under mutex_, joined by the destructor
};

}  // namespace run_recorder
