// Whether the database takes other events than one that it refused: what tells an event that is refused from a
// database that refuses everything. Nothing of it is committed. For the recorder's thread.
#pragma once

#include <cstdint>
#include <span>

#include "base/liveness.h"
#include "base/result.h"
#include "recorder/batch_reader.h"
#include "recorder/database_health.h"
#include "recorder/event_decider.h"
#include "recorder/failure.h"
#include "store/store.h"

namespace run_recorder {

class AcceptanceProbe {
 public:
  // All of them outlive it.
  AcceptanceProbe(BatchReader& reader, EventDecider& decider, DatabaseHealth& health, Liveness& liveness)
      : reader_(reader), decider_(decider), health_(health), liveness_(liveness) {}

  struct Target {
    Store& store;
    const RecorderSelf& self;
    const BatchWrite& place;  // see SpoolProgress::place()
  };

  // A batch begins: nothing is known of it.
  void begin() { took_new_ = took_changed_ = proven_ = false; }
  // The database took some of the batch: rows that were new, or changed.
  void taken(bool inserts, bool changes);
  // It was proven for this batch that it takes others.
  bool proven() const { return proven_; }
  void prove() { proven_ = true; }

  // Rehearses rows of a run that never was, then of one like the newest, then of events behind the refused one (seq).
  // False: it takes none of them. Errors: what is no fault of the rows.
  Result<bool> takes_others(const Target& target, const Refused& refused, std::uint64_t seq);

 private:
  Result<bool> takes_probe(const Target& target);
  Result<bool> takes_one_behind(const Target& target, const Refused& refused, std::uint64_t seq);
  Result<bool> rehearse(const Target& target, std::span<const BatchWrite> writes);

  BatchReader& reader_;
  EventDecider& decider_;
  DatabaseHealth& health_;
  Liveness& liveness_;
  bool took_new_ = false;
  bool took_changed_ = false;
  bool proven_ = false;
};

}  // namespace run_recorder
