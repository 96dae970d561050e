// The recorder's batches, as they come out of the spool: from memory where the events are fresh, else from disk. For
// the recorder's thread; only add() may be called from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "recorder/fresh_events.h"
#include "recorder/spare_room.h"
#include "recorder/spool_progress.h"
#include "spool/spool.h"
#include "store/store.h"

namespace run_recorder {

// Contiguous records of one range, either events or what is left of some that can no longer be read.
struct Batch {
  std::size_t range = 0;
  std::uint64_t from = 0;  // done before
  std::uint64_t to = 0;    // done after; from: nothing can be read now
  std::vector<SpooledEvent> events;
  std::vector<DeadLetter> unreadable;
  bool empty() const { return to == from; }
};

class BatchReader {
 public:
  // The spool outlives it. fresh_bytes: of memory; batch_bytes: of a batch's records, beyond the first.
  BatchReader(Spool& spool, std::size_t fresh_bytes, std::size_t batch_bytes);

  // Freshly durable events, in order. From any thread.
  void add(std::vector<SpooledEvent>&& events) { fresh_.add(std::move(events)); }
  // At most max_events of the part, up to the first record that cannot be read; where that is the first, it alone (or
  // a bounded number of missing ones) as `recorder`'s dead letters.
  Batch read(const SpoolProgress::Part& part, std::size_t max_events, const std::string& recorder);
  // The room of a batch's events that are gone, for those of the next; and letting go of it.
  void reuse(std::vector<SpooledEvent>&& spent) { spare_.give(std::move(spent)); }
  void release_room() { spare_.release(); }
  // A few of the events behind seq, as far as they can be read.
  std::vector<SpooledEvent> read_behind(std::uint64_t seq);
  // The body of an event's record; empty where it cannot be read any more.
  std::string record_of(const SpooledEvent& event);

 private:
  Result<std::vector<SpoolRecord>> read_records(std::uint64_t seq, std::size_t max_records, std::size_t max_bytes);
  void read_stored(const SpoolProgress::Part& part, std::size_t max_events, const std::string& recorder,
                   Batch& batch);

  Spool& spool_;
  FreshEvents fresh_;
  SpareRoom<SpooledEvent> spare_;
  const std::size_t batch_bytes_;
  RepeatGuard unreadable_;
  std::string last_damage_;  // the newest sentence about it; empty: none was met
};

}  // namespace run_recorder
