// When the passes come that nobody asks for: the second boot pass, one at every interval, one where processes have
// ended. Time is a parameter. Not synchronised: the reconciler guards it.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "process/ended_processes.h"
#include "reconcile/plan.h"

namespace run_recorder {

class Schedule {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Work { kNone, kSecondBoot, kInterval, kEnded };
  struct Due {
    Work work = Work::kNone;
    Time at{};  // of kNone: when to ask again
  };

  // What is due first. interval 0: no pass at intervals.
  Due next(Time now, std::chrono::milliseconds interval) const;

  // The first boot pass has ended: the intervals begin. second: empty where it deferred nothing.
  void boot_ended(Time now, std::optional<Plan> second, std::chrono::milliseconds grace);
  // Precondition: next() has named it.
  const Plan& second_boot() const;
  void second_boot_done() { second_boot_.reset(); }
  // It failed, or had to leave rows: it comes again.
  void second_boot_again(Time due);
  void interval_began(Time now) { last_interval_ = now; }

  // ---- what has ended
  // True: it is due before all others.
  bool add_ended(ProcessEnd end) { return ended_.add(std::move(end)); }
  // Those due by now. Ends that come close together are taken together.
  std::vector<ProcessEnd> take_ended(Time now);
  // They could not be decided, and are due again; one that could not for kMostChecks is left to the next interval.
  void check_again(std::vector<ProcessEnd> ends);
  std::optional<Time> ended_due() const;

  static constexpr std::chrono::milliseconds kBetweenEnded{500};
  static constexpr std::chrono::milliseconds kAfterGrace{50};
  static constexpr int kMostChecks = 100;

 private:
  struct SecondBoot {
    Plan plan;
    Time due;
  };
  std::optional<SecondBoot> second_boot_;
  Time last_interval_{};
  Time last_ended_{};
  EndedProcesses ended_;
};

}  // namespace run_recorder
