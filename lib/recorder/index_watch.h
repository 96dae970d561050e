// Whether the database's indexes are there, and has missing ones built. For the recorder's thread; waiting_for() for
// any.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/time.h"
#include "recorder/index_building.h"
#include "store/store.h"

namespace run_recorder {

// Indexes that are not there yet. Where events_unique is false each event is compared with the history meanwhile.
struct IndexWait {
  std::string indexes;  // their names
  bool events_unique = false;
  Timestamp since{};
  std::string held_up_by;  // whose transaction the building waits for; empty: nobody's that is known
  std::string error;       // why they could not be built
};

class IndexWatch {
 public:
  using Clock = std::chrono::steady_clock;
  using UtcClock = std::function<Timestamp()>;
  // builds: missing indexes are built; else a missing unique index of the history is an error.
  IndexWatch(const StoreOptions& options, bool builds, UtcClock utc = now_utc);

  // Time to check again: soon while some are missing, and now and then while all are there, as somebody may drop one.
  bool due(Clock::time_point now) const;
  // Errors: the store's, and kRefused where the history's unique index is missing for good.
  Result<void> check(Store& store, Clock::time_point now);
  // Whether the database refuses an event's id that comes twice, or every batch has to look for itself.
  bool events_unique() const { return events_unique_; }
  std::optional<IndexWait> waiting_for() const;

 private:
  void note(const IndexState& state);

  const bool builds_;
  const UtcClock utc_;
  IndexBuilding building_;
  RepeatGuard missing_;
  bool events_unique_ = true;
  Clock::time_point checked_{};
  std::string reason_logged_;
  mutable Mutex mutex_;
  std::optional<IndexWait> waiting_for_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
