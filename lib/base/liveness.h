// How the watchdog knows that a thread makes progress: the thread calls beat() within the time it promised, the
// watchdog asks missed(). Safe from any thread.
#pragma once

#include <atomic>
#include <chrono>

namespace run_recorder {

class Liveness {
 public:
  // within: the longest time between two beats. Nothing is expected before the first one.
  explicit Liveness(std::chrono::milliseconds within) : within_(within) {}

  // Promises the next beat in time, or within `next` where what follows may take longer.
  void beat() { beat(within_); }
  void beat(std::chrono::milliseconds next) { due_.store((Clock::now() + next).time_since_epoch().count()); }
  // Promises nothing: the thread has ended, or waits for work.
  void rest() { due_.store(kNever); }

  // The promised beat is overdue.
  bool missed() const { return Clock::now().time_since_epoch().count() > due_.load(); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::rep kNever = Clock::time_point::max().time_since_epoch().count();
  const std::chrono::milliseconds within_;
  std::atomic<Clock::rep> due_{kNever};
};

// As top -H and debuggers show it; longer names than 15 characters are ignored.
void name_this_thread(const char* name);

// For a thread that works in short pieces while somebody waits for each: it gets the processor sooner when it wakes
// up, and keeps it for less long (Linux 6.12; before that nothing changes). Needs no privilege.
void ask_for_short_slices();

}  // namespace run_recorder
