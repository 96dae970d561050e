// Looks whether events are accepted, remembers since when, and logs what changes: that the spool or the disk under it
// is full, once for each way of being so, and its end once it has lasted; that the disk runs low. Whoever looks, the
// main thread once a second or the thread that refuses an event, sees and logs the same.
//
// Safe from any thread.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <string>

#include "base/log.h"
#include "base/mutex.h"
#include "server/acceptance.h"
#include "server/counters.h"
#include "spool/spool.h"

namespace run_recorder {

class AcceptanceWatch {
 public:
  using Clock = std::chrono::steady_clock;
  // Events must have been accepted for so long before the end is logged: room comes and goes while a backlog is
  // applied.
  static constexpr std::chrono::seconds kProven{5};

  // why_events_wait: see ServerOptions. Spool and counters outlive it.
  AcceptanceWatch(const Spool& spool, const Counters& counters, std::function<std::string()> why_events_wait);

  Acceptance look() { return look(Clock::now()); }
  Acceptance look(Clock::time_point now);

 private:
  // What is logged of a time in which events are refused.
  enum class Line { kAllButLifecycle, kSpoolFull, kDiskFull };

  void log_room(const Acceptance& acceptance, Clock::time_point now) REQUIRES(mutex_);
  void log_end(const SpoolRoom& room, Clock::time_point now) REQUIRES(mutex_);
  bool disk_is_low(const SpoolRoom& room) REQUIRES(mutex_);

  const Spool& spool_;
  const Counters& counters_;
  const std::function<std::string()> why_events_wait_;

  Mutex mutex_;
  Acceptance::State state_ GUARDED_BY(mutex_) = Acceptance::State::kAccepting;
  Acceptance::Reason reason_ GUARDED_BY(mutex_) = Acceptance::Reason::kNone;
  Timestamp since_ GUARDED_BY(mutex_);
  std::array<bool, 3> said_ GUARDED_BY(mutex_){};     // by Line, since events began to be refused
  Clock::time_point began_ GUARDED_BY(mutex_){};      // the time of said_
  Clock::time_point last_full_ GUARDED_BY(mutex_){};  // seen
  RepeatGuard low_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
