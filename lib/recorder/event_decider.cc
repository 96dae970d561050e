#include "recorder/event_decider.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kJobPatience{200};

Run bare_row(std::string_view run_id, const OpenRuns::OpenRun& open) {
  Run row;
  row.run_id = run_id;
  row.council = open.council;
  row.status = Status::kRunning;
  row.started_at = open.started_at;
  row.last_seq = open.last_seq;
  row.bare = true;
  return row;
}

}  // namespace

EventDecider::EventDecider(NamedQueues queues, RowCacheSize cache, Heartbeats::Clock::duration write_heartbeats,
                           Liveness& liveness)
    : beats_(write_heartbeats),
      probe_(std::move(queues)),
      cache_(cache.bytes, cache.open_runs),
      liveness_(liveness) {}

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
  Run bare;
  const auto row_of = [&](std::string_view run_id) -> const Run* {
    if (const auto row = rows.find(run_id); row != rows.end()) return &row->second;
    if (lookup == Lookup::kStored) return nullptr;
    if (const Run* const row = cache_.find(run_id)) return row;
    const auto open = cache_.find_open(run_id);
    if (!open) return nullptr;
    bare = bare_row(run_id, *open);
    return &bare;
  };
  const auto same = compare_outcomes(store, events, row_of);
  if (!same) return same.error();
  Decision room;
  room.runs = spare_runs_.take();
  room.history = spare_history_.take();
  return decide(std::move(events), row_of, known, by, pruned, same.value(), std::move(room));
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

// Whether the event can be decided from what is remembered of an open run: it asks for no value but those, and
// changes none that is a sum or one of several that are written together.
bool EventDecider::decides_bare(const Event& event, const OpenRuns::OpenRun& open) const {
  const bool ends = event.kind == EventKind::kCompleted || event.kind == EventKind::kFailed;
  if (!ends && event.kind != EventKind::kOther && event.kind != EventKind::kLost) return false;
  if (event.usage || event.progress || event.expires_in || event.attempt) return false;
  if (event.worker_pid && event.worker_process.empty()) return false;
  return !(ends && open.has_job && probe_.configured() && !event.job_state);
}

// The runs whose rows have to be loaded: all, or those that are not cached, or not enough of them, and that none of
// these events begins. An event that begins a run is taken for its first where nothing is known of it.
std::vector<std::string> EventDecider::unknown_rows(std::span<const SpooledEvent> events, Lookup lookup) const {
  enum class Known { kEnough, kOpen, kNothing };
  std::unordered_map<std::string_view, Known> runs;
  runs.reserve(events.size());
  std::vector<std::string> unknown;
  for (const SpooledEvent& spooled : events) {
    const Event& event = spooled.event;
    const auto [run, is_new] = runs.try_emplace(event.run_id, Known::kEnough);
    if (!is_new && run->second != Known::kOpen) continue;
    const bool begins = event.kind == EventKind::kQueued || event.kind == EventKind::kStarted;
    if (lookup == Lookup::kStored) {
      run->second = Known::kNothing;
    } else if (!is_new || !cache_.find(event.run_id)) {
      const auto open = cache_.find_open(event.run_id);
      if (open && decides_bare(event, *open)) {
        run->second = Known::kOpen;
      } else if (open || !begins) {
        run->second = Known::kNothing;
      }
    }
    if (run->second == Known::kNothing) unknown.push_back(event.run_id);
  }
  return unknown;
}

bool EventDecider::needs_database(std::span<const SpooledEvent> events) const {
  if (!unknown_rows(events, Lookup::kCached).empty()) return true;
  return std::ranges::any_of(events, [&](const SpooledEvent& spooled) {
    const Run* row = cache_.find(spooled.event.run_id);
    return row && needs_comparison(*row, spooled.event);
  });
}

Result<void> EventDecider::load_rows(Store& store, std::span<const SpooledEvent> events, Lookup lookup,
                                     std::map<std::string, Run, std::less<>>& rows) {
  const std::vector<std::string> wanted = unknown_rows(events, lookup);
  if (wanted.empty()) return {};
  auto loaded = store.load(wanted);
  if (!loaded) return loaded.error();
  for (Run& run : loaded.value()) {
    std::string run_id = run.run_id;
    rows.emplace(std::move(run_id), std::move(run));
  }
  for (const std::string& run_id : wanted) {
    if (!rows.contains(run_id)) cache_.erase(run_id);  // there is none, whatever was remembered
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
  for (const BeatWrite& beat : write.beats) cache_.outdate(beat.run_id);
  beats_.wrote(write.runs, beating, recorder, now);
}

void EventDecider::not_written(const BatchWrite& write) {
  beats_.doubt();
  for (const RunChange& change : write.runs) cache_.erase(change.after.run_id);
}

}  // namespace run_recorder
