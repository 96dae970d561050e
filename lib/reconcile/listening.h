// Since when this daemon accepts events without a break. What a sender could not say meanwhile does not count against
// its run, so reconciliation asks this before it marks anything. A break is the time in which the spool refused
// events, or in which the process or its host was suspended. Safe from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "base/mutex.h"
#include "base/time.h"

namespace run_recorder {

class Listening {
 public:
  using Steady = std::chrono::steady_clock::time_point;

  // All clocks at one moment: the steady one stands still while the host is suspended, the other one does not.
  struct Moment {
    Steady steady{};
    std::chrono::nanoseconds since_boot{};  // CLOCK_BOOTTIME
    Timestamp wall{};
    static Moment now();
  };
  // What the event server counts.
  struct Refusals {
    bool spool_failed = false;  // the last append failed
    std::uint64_t refused = 0;  // lines that the spool had no room for, or could not take
  };
  struct State {
    Steady since{};        // events are accepted without a break
    Steady clock_since{};  // the wall clock was not set back, as far as this process knows
  };

  explicit Listening(const Moment& start);

  // Called once a second, and before anything is judged: more than kLate between two calls was a suspension.
  State observe(const Moment& now, const Refusals& refusals);

  static constexpr std::chrono::seconds kLate{5};
  static constexpr std::chrono::milliseconds kSetBack{500};

 private:
  Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  Moment last_ GUARDED_BY(mutex_);
  std::uint64_t refused_ GUARDED_BY(mutex_) = 0;
};

}  // namespace run_recorder
