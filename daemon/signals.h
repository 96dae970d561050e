// The daemon's signals, taken by a thread of their own: SIGTERM and SIGINT stop (a second one ends the process at
// once, for everything acknowledged is on disk), SIGHUP reloads. SIGPIPE is ignored. Safe from any thread; wait() is
// for one.
#pragma once

#include <chrono>
#include <thread>

#include "base/liveness.h"
#include "base/mutex.h"

namespace run_recorder {

class Signals {
 public:
  // Blocks the signals in the calling thread and all it starts afterwards: construct it first.
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  enum class Wake { kTimeout, kStop, kReload };
  // Waits for the next one.
  Wake wait(std::chrono::milliseconds timeout);
  bool stop_requested() const;
  // For the watchdog: the thread that takes them has made no progress for a minute.
  bool stuck() const { return liveness_.missed(); }

 private:
  void watch();

  Liveness liveness_{std::chrono::seconds{60}};
  std::thread thread_;
  mutable Mutex mutex_;
  Condition changed_;
  bool stop_ GUARDED_BY(mutex_) = false;
  bool reload_ GUARDED_BY(mutex_) = false;
  bool ending_ GUARDED_BY(mutex_) = false;
};

}  // namespace run_recorder
