#include "recorder/decision.h"

#include <unordered_map>

namespace run_recorder {
namespace {

// Whether a heartbeat is more than a sign of life of a run that has ended.
bool changes_row(const Transition& transition) {
  return !is_finished(transition.after.status) || transition.reports_changed || !transition.history.empty();
}

bool is_terminal(Status status) {
  return is_finished(status) || status == Status::kStuck;
}

// before: the row that the transition began with, or nullptr.
void note_life(RunChange& change, const Run* before, const Transition& transition) {
  const Run& after = transition.after;
  const bool has_left = !before || before->status != after.status;
  change.started = change.started || (after.started_at && !(before && before->started_at));
  change.ended = is_terminal(after.status) && (change.ended || has_left);
}

}  // namespace

Decision decide(std::vector<SpooledEvent> events, const std::function<const Run*(std::string_view)>& row_of,
                const EventIds& known, RecordedBy by, const std::set<std::string, std::less<>>& pruned,
                const Comparisons& same, Decision room) {
  Decision decision = std::move(room);
  EventIds in_batch;
  std::unordered_map<std::string, std::size_t> change_of;  // run_id -> index in decision.runs
  decision.history.reserve(events.size());
  decision.runs.reserve(events.size());  // as many runs where each goes on beyond the batch
  change_of.reserve(events.size());
  for (SpooledEvent& spooled : events) {
    Event& event = spooled.event;
    const bool is_heartbeat = event.kind == EventKind::kHeartbeat;
    if (!pruned.empty() && pruned.contains(event.run_id)) {
      ++decision.duplicate;
      continue;
    }
    if (event.id) {
      std::pair<std::string, std::string> id{event.run_id, *event.id};
      if (known.contains(id) || !in_batch.insert(std::move(id)).second) {
        ++decision.duplicate;
        continue;
      }
    }
    const auto found = change_of.find(event.run_id);
    const Run* row = found != change_of.end() ? &decision.runs[found->second].after : row_of(event.run_id);
    const auto compared = same.find(spooled.seq);
    Transition transition =
        apply(row, std::move(event), by, compared == same.end() ? SameOutcome{} : compared->second);
    ++decision.applied;
    if (!transition.conflict.empty()) {
      const HistoryEntry& own = transition.history.front();  // only heartbeats have none, and they contradict nothing
      decision.conflicts.push_back({own.run_id, own.type, std::move(transition.conflict)});
    }
    if (transition.finalized) decision.finalized.push_back(transition.after.run_id);
    if (is_heartbeat && !changes_row(transition)) continue;
    if (is_heartbeat) decision.beating.push_back(transition.after.run_id);
    for (HistoryEntry& entry : transition.history) decision.history.push_back(std::move(entry));
    if (found == change_of.end()) {
      RunChange change;
      note_life(change, row, transition);
      change.expected_last_seq = row ? row->last_seq : 0;
      change.insert = transition.inserted;
      change.fields_changed = transition.fields_changed;
      change.outcome_changed = transition.outcome_changed;
      change.reports_changed = transition.reports_changed;
      change.after = std::move(transition.after);
      change_of.emplace(change.after.run_id, decision.runs.size());
      decision.runs.push_back(std::move(change));
    } else {
      RunChange& change = decision.runs[found->second];
      note_life(change, row, transition);
      change.fields_changed = change.fields_changed || transition.fields_changed;
      change.outcome_changed = change.outcome_changed || transition.outcome_changed;
      change.reports_changed = change.reports_changed || transition.reports_changed;
      change.after = std::move(transition.after);
    }
  }
  events.clear();
  decision.spent = std::move(events);
  return decision;
}

}  // namespace run_recorder
