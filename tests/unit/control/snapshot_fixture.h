// A snapshot with a ledger that adds up, and the report of a pass.
#pragma once

#include "control/snapshot.h"

namespace run_recorder::testing {

inline Snapshot snapshot() {
  Snapshot made;
  made.version = "0.1.0";
  made.recorder_id = "rec";
  made.host = "host-1";
  made.started_at = parse_rfc3339("2026-03-01T12:00:00Z").value();
  made.now = made.started_at + std::chrono::hours{1};
  made.database_url = "sqlite:/x";
  made.acceptance.room.max_bytes = 1'000;
  made.recorder.ledger = {.applied = 5, .duplicate = 4, .dead_letters = 2, .dead_letters_removed = 1, .conflicts = 3};
  made.recorder.waiting = 7;
  made.recorder.accepted = 19;
  made.recorder.database = DatabaseState::kUp;
  made.recorder.batch_sizes.assign(kBatchBounds.size() + 1, 0);
  made.server.excluded = 6;
  return made;
}

inline PassReport report() {
  PassReport made;
  made.pass_id = "p1";
  made.trigger = PassTrigger::kBoot;
  made.examined = 3;
  made.stuck = 2;
  made.alive = 1;
  made.marked = 2;
  made.reasons = {{"process_gone", 2}};
  return made;
}

}  // namespace run_recorder::testing
