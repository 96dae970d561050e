// Heartbeats that say nothing but that the run goes on. A row is renewed by one at most every ten seconds; what comes
// in between is kept here, and whoever judges the row asks for it. Bounded: a run that finds no room here has every
// heartbeat written. What is lost with the process is made good by the pass after its start, which counts nobody's
// silence from before it could hear. Thread-safe; all but since() and last() is for the recorder's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "recorder/fresh_events.h"
#include "store/store.h"

namespace run_recorder {

class Heartbeats {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kWriteEvery{10};
  static constexpr std::size_t kMaxRuns = 131'072;

  explicit Heartbeats(Clock::duration write_every = kWriteEvery, std::size_t max_runs = kMaxRuns)
      : write_every_(write_every), max_runs_(max_runs) {}

  struct Taken {
    std::vector<BeatWrite> due;  // rows to be renewed, each once
    std::uint64_t kept = 0;      // heartbeats that are only remembered
    std::uint64_t total() const { return due.size() + kept; }
  };
  // Takes bare heartbeats out of events: those of runs whose rows are known to be running and this recorder's, unless
  // another event of the run is among them. The rest is decided event by event.
  Taken take(std::vector<SpooledEvent>& events, Clock::time_point now);
  // Rows as they are written now; beating: those of them that a heartbeat wrote.
  void wrote(std::span<const RunChange> changes, std::span<const std::string> beating, std::string_view recorder,
             Clock::time_point now);
  // What was to be written may not have been: every run's next heartbeat is decided by itself.
  void doubt();
  // Whether the run gave a heartbeat after then. Where it did not, its next one is decided by itself and meets the
  // row as whoever asks leaves it.
  bool since(std::string_view run_id, Clock::time_point then);
  // The run's latest heartbeat, written or not, as far as it is remembered: at least all that its row does not have.
  std::optional<Clock::time_point> last(std::string_view run_id);

 private:
  struct Run {
    Clock::time_point last{};     // heartbeat, written or not
    Clock::time_point written{};  // the row's
    std::size_t worker = 0;       // what the row says, as hashes
    std::size_t sender = 0;
    std::int32_t expires_in = 0;
    bool known = false;  // the row is running, this recorder's, and as written here
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Runs = std::unordered_map<std::string, Run, Hash, std::equal_to<>>;

  Run* find(std::string_view run_id) REQUIRES(mutex_);
  bool take_one(Event& event, Clock::time_point now, Taken& taken) REQUIRES(mutex_);
  void sweep(Clock::time_point now) REQUIRES(mutex_);

  const Clock::duration write_every_;
  const std::size_t max_runs_;
  Mutex mutex_;
  Runs runs_ GUARDED_BY(mutex_);
  Clock::time_point swept_ GUARDED_BY(mutex_){};
};

}  // namespace run_recorder
