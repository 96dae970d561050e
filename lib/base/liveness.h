// What a thread tells the watchdog: that it gets on. It calls beat() more often than it promised; whoever watches
// asks whether it did. Safe from any thread.
#pragma once

#include <atomic>
#include <chrono>

namespace run_recorder {

class Liveness {
 public:
  // within: the longest time between two beats. Nothing is expected before the first one.
  explicit Liveness(std::chrono::milliseconds within) : within_(within) {}

  // It gets on; the next beat comes in time, or within `next` where what follows may take longer.
  void beat() { beat(within_); }
  void beat(std::chrono::milliseconds next) { due_.store((Clock::now() + next).time_since_epoch().count()); }
  // It has ended, or waits for work as long as it takes.
  void rest() { due_.store(kNever); }

  // The beat that was promised did not come.
  bool missed() const { return Clock::now().time_since_epoch().count() > due_.load(); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::rep kNever = Clock::time_point::max().time_since_epoch().count();
  const std::chrono::milliseconds within_;
  std::atomic<Clock::rep> due_{kNever};
};

// As top -H and debuggers show it; at most 15 characters.
void name_this_thread(const char* name);

// For a thread that works in short pieces while somebody waits for each: it gets the processor sooner when it wakes
// up, and keeps it for less long (Linux 6.12; before that nothing changes). Needs no privilege.
void ask_for_short_slices();

}  // namespace run_recorder
