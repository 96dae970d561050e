// What a batch of events writes: loads the rows it touches where the cache has none, and asks decide(), which is
// pure. Bare heartbeats are decided by themselves. For the recorder's thread; heartbeats() for any.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/liveness.h"
#include "base/result.h"
#include "queue/job_probe.h"
#include "recorder/decision.h"
#include "recorder/heartbeats.h"
#include "recorder/row_cache.h"
#include "recorder/spare_room.h"
#include "store/store.h"

namespace run_recorder {

enum class Lookup {
  kCached,  // rows as they were written last; whether an event is known, the database's unique index tells
  kStored,  // rows, known events and removed runs as the database has them now
};

struct RowCacheSize {
  std::size_t bytes = 0;      // of rows that are cached but for their texts
  std::size_t open_runs = 0;  // that are remembered beyond
};

class EventDecider {
 public:
  // liveness outlives it. write_heartbeats: a row is renewed by a bare heartbeat once in so long.
  EventDecider(NamedQueues queues, RowCacheSize cache, Heartbeats::Clock::duration write_heartbeats,
               Liveness& liveness);

  // Whether deciding from cached rows asks the database for anything, which a commit under way has to itself.
  bool needs_database(std::span<const SpooledEvent> events) const;
  // Errors: the store's.
  Result<Decision> decide_batch(Store& store, std::vector<SpooledEvent> events, RecordedBy by, Lookup lookup,
                                Heartbeats::Clock::time_point now);
  // The same, heartbeats too event by event.
  Result<Decision> decide_each(Store& store, std::vector<SpooledEvent> events, RecordedBy by, Lookup lookup);
  // Asks the queues for the state of the jobs whose runs end here, for a moment at most.
  void add_job_states(Decision& decision);

  // The next decisions are to start from rows as this write leaves them.
  void planned(const BatchWrite& write, std::span<const std::string> beating, std::string_view recorder,
               Heartbeats::Clock::time_point now);
  // It was not written.
  void not_written(const BatchWrite& write);
  // Heartbeats that were to be written may not have been.
  void doubt_heartbeats() { beats_.doubt(); }
  void forget_row(std::string_view run_id) { cache_.erase(run_id); }
  void forget_rows() { cache_.clear(); }

  Heartbeats& heartbeats() { return beats_; }

  // The room of a write that is done, for those to come; and letting go of it.
  void reuse(BatchWrite&& done) {
    spare_runs_.give(std::move(done.runs));
    spare_history_.give(std::move(done.history));
  }
  void release_room() {
    spare_runs_.release();
    spare_history_.release();
  }

 private:
  bool decides_bare(const Event& event, const OpenRuns::OpenRun& open) const;
  std::vector<std::string> unknown_rows(std::span<const SpooledEvent> events, Lookup lookup) const;
  Result<void> load_rows(Store& store, std::span<const SpooledEvent> events, Lookup lookup,
                         std::map<std::string, Run, std::less<>>& rows);
  Result<Comparisons> compare_outcomes(Store& store, std::span<const SpooledEvent> events,
                                       const std::function<const Run*(std::string_view)>& row_of);
  Result<void> find_pruned(Store& store, std::span<const SpooledEvent> events,
                           const std::map<std::string, Run, std::less<>>& rows,
                           std::set<std::string, std::less<>>& pruned);

  Heartbeats beats_;
  JobProbe probe_;
  RowCache cache_;
  SpareRoom<RunChange> spare_runs_;
  SpareRoom<HistoryEntry> spare_history_;
  Liveness& liveness_;
};

}  // namespace run_recorder
