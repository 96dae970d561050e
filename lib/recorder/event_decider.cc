#include "recorder/event_decider.h"

#include <algorithm>
#include <utility>

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kJobPatience{200};

}  // namespace

EventDecider::EventDecider(NamedQueues queues, std::size_t cache_bytes, Heartbeats::Clock::duration write_heartbeats,
                           Liveness& liveness)
    : beats_(write_heartbeats), probe_(std::move(queues)), cache_(cache_bytes), liveness_(liveness) {}

Result<Decision> EventDecider::decide_batch(Store& store, std::vector<SpooledEvent> events, RecordedBy by,
                                            Lookup lookup, Heartbeats::Clock::time_point now) {
  Heartbeats::Taken taken = beats_.take(events, now);
  if (events.empty()) {
    Decision only_beats;
    only_beats.applied = taken.total();
    only_beats.beats = std::move(taken.due);
    return only_beats;
  }
  auto decision = decide_each(store, std::move(events), by, lookup);
  if (!decision) {
    beats_.doubt();
    return decision;
  }
  decision.value().applied += taken.total();
  decision.value().beats = std::move(taken.due);
  return decision;
}

Result<Decision> EventDecider::decide_each(Store& store, std::vector<SpooledEvent> events, RecordedBy by,
                                           Lookup lookup) {
  std::map<std::string, Run, std::less<>> rows;
  EventIds known;
  std::set<std::string, std::less<>> pruned;
  if (const auto loaded = load_rows(store, events, lookup, rows); !loaded) return loaded.error();
  if (lookup == Lookup::kStored) {
    std::vector<std::pair<std::string, std::string>> ids;
    for (const SpooledEvent& event : events) {
      if (event.event.id) ids.emplace_back(event.event.run_id, *event.event.id);
    }
    if (!ids.empty()) {
      auto found = store.known_events(ids);
      if (!found) return found.error();
      known.insert(found.value().begin(), found.value().end());
    }
    if (const auto removed = find_pruned(store, events, rows, pruned); !removed) return removed.error();
  }
  const auto row_of = [&](std::string_view run_id) -> const Run* {
    if (const auto row = rows.find(run_id); row != rows.end()) return &row->second;
    return lookup == Lookup::kStored ? nullptr : cache_.find(run_id);
  };
  const auto same = compare_outcomes(store, events, row_of);
  if (!same) return same.error();
  return decide(std::move(events), row_of, known, by, pruned, same.value());
}

// Rows come without their texts, whatever those weigh. For the few events that have to be compared with them the
// database does it, so that a batch takes memory for what its events bring and not for what their rows hold.
Result<Comparisons> EventDecider::compare_outcomes(Store& store, std::span<const SpooledEvent> events,
                                                   const std::function<const Run*(std::string_view)>& row_of) {
  std::vector<SaidOutcome> said;
  std::vector<std::uint64_t> seqs;
  for (const SpooledEvent& spooled : events) {
    const Run* row = row_of(spooled.event.run_id);
    if (!row || !needs_comparison(*row, spooled.event)) continue;
    said.push_back({spooled.event.run_id, outcome_of(spooled.event)});
    seqs.push_back(spooled.seq);
  }
  Comparisons same;
  if (said.empty()) return same;
  liveness_.beat();
  const auto compared = store.compare_outcomes(said);
  if (!compared) return compared.error();
  for (std::size_t i = 0; i < seqs.size(); ++i) same.emplace(seqs[i], compared.value()[i]);
  return same;
}

// Runs without a row that once had one. Only a decision from stored rows asks: one from cached rows
// loses the race that the insertion of such a row is.
Result<void> EventDecider::find_pruned(Store& store, std::span<const SpooledEvent> events,
                                       const std::map<std::string, Run, std::less<>>& rows,
                                       std::set<std::string, std::less<>>& pruned) {
  std::set<std::string> missing;
  for (const SpooledEvent& spooled : events) {
    if (!rows.contains(spooled.event.run_id)) missing.insert(spooled.event.run_id);
  }
  if (missing.empty()) return {};
  auto found = store.pruned(std::vector<std::string>(missing.begin(), missing.end()));
  if (!found) return found.error();
  pruned.insert(found.value().begin(), found.value().end());
  return {};
}

// A run that none of these events begins and that is not cached: its row has to be loaded.
bool EventDecider::needs_row(const Event& event) const {
  const bool begins = event.kind == EventKind::kQueued || event.kind == EventKind::kStarted;
  return !begins && !cache_.find(event.run_id);
}

bool EventDecider::needs_database(std::span<const SpooledEvent> events) const {
  std::set<std::string_view> seen;
  return std::ranges::any_of(events, [&](const SpooledEvent& spooled) {
    if (seen.insert(spooled.event.run_id).second && needs_row(spooled.event)) return true;
    const Run* row = cache_.find(spooled.event.run_id);
    return row && needs_comparison(*row, spooled.event);
  });
}

// Loads the rows a decision needs: all of them, or those that are neither cached nor begun by these events.
Result<void> EventDecider::load_rows(Store& store, std::span<const SpooledEvent> events, Lookup lookup,
                                     std::map<std::string, Run, std::less<>>& rows) {
  std::vector<std::string> wanted;
  std::set<std::string_view> seen;
  for (const SpooledEvent& spooled : events) {
    const Event& event = spooled.event;
    if (!seen.insert(event.run_id).second) continue;
    if (lookup == Lookup::kStored || needs_row(event)) wanted.push_back(event.run_id);
  }
  if (wanted.empty()) return {};
  auto loaded = store.load(wanted);
  if (!loaded) return loaded.error();
  for (Run& run : loaded.value()) {
    std::string run_id = run.run_id;
    rows.emplace(std::move(run_id), std::move(run));
  }
  return {};
}

void EventDecider::add_job_states(Decision& decision) {
  if (!probe_.configured() || decision.finalized.empty()) return;
  const std::set<std::string_view> finalized(decision.finalized.begin(), decision.finalized.end());
  std::vector<JobAsked> jobs;
  std::vector<RunChange*> changes;
  for (RunChange& change : decision.runs) {
    if (!finalized.contains(change.after.run_id) || change.after.oban_job_state_at_finalize) continue;
    auto job = job_of(change.after);
    if (!job) continue;
    jobs.push_back(std::move(*job));
    changes.push_back(&change);
  }
  const auto states = probe_.states(jobs, kJobPatience);
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (states[i]) changes[i]->after.oban_job_state_at_finalize = states[i];
  }
}

void EventDecider::planned(const BatchWrite& write, std::span<const std::string> beating, std::string_view recorder,
                           Heartbeats::Clock::time_point now) {
  for (const RunChange& change : write.runs) cache_.put(change.after);
  for (const BeatWrite& beat : write.beats) cache_.erase(beat.run_id);
  beats_.wrote(write.runs, beating, recorder, now);
}

void EventDecider::not_written(const BatchWrite& write) {
  beats_.doubt();
  for (const RunChange& change : write.runs) cache_.erase(change.after.run_id);
}

}  // namespace run_recorder
