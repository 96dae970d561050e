// From a batch of events and the rows they touch to one transaction's writes. Pure: no I/O; the database's answers
// are parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "recorder/fresh_events.h"
#include "store/store.h"

namespace run_recorder {

using EventIds = std::set<std::pair<std::string, std::string>>;  // (run_id, event id)
using Comparisons = std::map<std::uint64_t, SameOutcome>;        // by the event's seq

struct Decision {
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> history;
  std::uint64_t applied = 0;
  std::uint64_t duplicate = 0;
  struct Conflict {
    std::string run_id;
    std::string type;
    std::string what;
  };
  std::vector<Conflict> conflicts;
  std::vector<std::string> finalized;  // run_ids that became completed, failed or cancelled
  std::vector<std::string> beating;    // run_ids whose rows a heartbeat writes
  std::vector<BeatWrite> beats;        // beside runs: heartbeats that were not decided event by event
  std::vector<SpooledEvent> spent;     // empty: the room of the events, for others
};

// Applies events in order. row_of gives the stored row or nullptr (the pointer is used at once); known holds the ids
// that are in the history already; an event of a run that was removed (pruned) changes nothing, as a resend. same:
// for those events that have to be compared with row_of's row (needs_comparison). room: an empty decision, whose
// vectors' room is used.
Decision decide(std::vector<SpooledEvent> events, const std::function<const Run*(std::string_view)>& row_of,
                const EventIds& known, RecordedBy by, const std::set<std::string, std::less<>>& pruned = {},
                const Comparisons& same = {}, Decision room = {});

}  // namespace run_recorder
