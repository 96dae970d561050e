// What became of the runs of each council, for the metrics: from what the recorder commits, from what passes mark,
// and from what a pass reads of the newest rows, so that the last start and the last success outlive the process.
// Bounded: the first kCouncils names, all others under kOtherCouncils. Every function is safe from any thread; the
// clock is a parameter.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "store/store.h"

namespace run_recorder {

// Counts begin with the process.
struct CouncilTotals {
  static constexpr std::array<std::chrono::seconds, 10> kDurationBounds{
      std::chrono::seconds{1},     std::chrono::seconds{5},      std::chrono::seconds{15},
      std::chrono::seconds{60},    std::chrono::seconds{300},    std::chrono::seconds{900},
      std::chrono::seconds{3'600}, std::chrono::seconds{14'400}, std::chrono::seconds{43'200},
      std::chrono::seconds{86'400}};

  std::string council;
  std::uint64_t starts = 0;
  std::array<std::uint64_t, 4> ends{};   // by terminal_statuses(), in its order
  std::optional<std::uint64_t> running;  // rows, as last counted in the database
  // Empty where none is known, and for kOtherCouncils: those of many councils say nothing.
  std::optional<Timestamp> last_start, last_success;
  // From start to end, of runs that completed or failed. Not cumulative; the last counts all longer ones.
  std::array<std::uint64_t, kDurationBounds.size() + 1> durations{};
  std::chrono::microseconds duration_sum{};
};

class CouncilCounts {
 public:
  static constexpr std::size_t kCouncils = 64;
  static constexpr std::string_view kOtherCouncils = "other";

  // Of a transaction that was committed. A time ahead of now, which a sender may have said, counts as now.
  void committed(std::span<const RunChange> changes, Timestamp now);
  // A pass marked a run of this council.
  void marked_stuck(std::string_view council);
  // What a pass read. Running rows of councils that are not known, as those of other daemons, make none known.
  void counted(const RunningCouncils& running);
  void read(std::span<const RecentCouncil> recent, Timestamp now);

  // By name; kOtherCouncils last, once there is room for no other name or it has something.
  std::vector<CouncilTotals> totals() const;

 private:
  CouncilTotals& of(std::string_view council) REQUIRES(mutex_);
  void add_end(CouncilTotals& totals, const Run& run, Timestamp now) REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, CouncilTotals, std::less<>> councils_ GUARDED_BY(mutex_);
  CouncilTotals others_ GUARDED_BY(mutex_);
  bool has_others_ GUARDED_BY(mutex_) = false;
  bool has_counted_ GUARDED_BY(mutex_) = false;
};

}  // namespace run_recorder
