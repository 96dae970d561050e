#include "recorder/heartbeats.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace run_recorder {
namespace {

// A run that gave none for so long has left room for another.
constexpr std::chrono::seconds kForgetAfter{120};
constexpr std::chrono::seconds kSweepEvery{10};

bool is_bare(const Event& event) {
  return event.kind == EventKind::kHeartbeat && !event.usage && !event.progress;
}

std::size_t hash_of(std::string_view text) {
  return std::hash<std::string_view>{}(text);
}

}  // namespace

Heartbeats::Run* Heartbeats::find(std::string_view run_id) {
  const auto found = runs_.find(run_id);
  return found == runs_.end() ? nullptr : &found->second;
}

Heartbeats::Taken Heartbeats::take(std::vector<SpooledEvent>& events, Clock::time_point now) {
  Taken taken;
  const MutexLock lock(mutex_);
  if (runs_.empty()) return taken;
  const auto bare = [](const SpooledEvent& spooled) { return is_bare(spooled.event); };
  if (std::ranges::none_of(events, bare)) return taken;
  std::unordered_set<std::string> others;
  for (const SpooledEvent& spooled : events) {
    if (!bare(spooled)) others.insert(spooled.event.run_id);
  }
  std::vector<SpooledEvent> rest;
  for (SpooledEvent& spooled : events) {
    const bool by_itself = !bare(spooled) || others.contains(spooled.event.run_id);
    if (by_itself || !take_one(spooled.event, now, taken)) rest.push_back(std::move(spooled));
  }
  events = std::move(rest);
  return taken;
}

// A heartbeat that says something else than its row is written at once: the row has to tell who vouches for the run.
bool Heartbeats::take_one(Event& event, Clock::time_point now, Taken& taken) {
  Run* const run = find(event.run_id);
  if (run == nullptr) return false;
  run->last = now;
  if (!run->known) return false;
  const std::size_t sender = hash_of(event.sender_process);
  const std::size_t worker = event.worker_pid ? hash_of(event.worker_process) : run->worker;
  const std::int32_t expires_in = event.expires_in.value_or(run->expires_in);
  const bool same = sender == run->sender && worker == run->worker && expires_in == run->expires_in;
  if (same && now - run->written < write_every_) {
    ++taken.kept;
    return true;
  }
  BeatWrite beat;
  if (event.worker_pid) beat.worker_process = std::move(event.worker_process);
  beat.expires_in = event.expires_in;
  beat.sender_process = std::move(event.sender_process);
  beat.connection = std::move(event.connection);
  beat.run_id = std::move(event.run_id);
  run->written = now;
  run->sender = sender;
  run->worker = worker;
  run->expires_in = expires_in;
  taken.due.push_back(std::move(beat));
  return true;
}

void Heartbeats::wrote(std::span<const RunChange> changes, std::span<const std::string> beating,
                       std::string_view recorder, Clock::time_point now) {
  const MutexLock lock(mutex_);
  if (runs_.empty() && beating.empty()) return;
  const std::unordered_set<std::string_view> beats(beating.begin(), beating.end());
  for (const RunChange& change : changes) {
    const auto& row = change.after;
    Run* run = find(row.run_id);
    if (row.status != Status::kRunning || row.recorder != recorder) {
      if (run != nullptr) runs_.erase(row.run_id);
      continue;
    }
    if (run == nullptr) {
      if (!beats.contains(row.run_id)) continue;
      if (runs_.size() >= max_runs_) sweep(now);
      if (runs_.size() >= max_runs_) continue;
      run = &runs_[row.run_id];
    }
    if (beats.contains(row.run_id)) run->last = now;
    run->written = now;
    run->sender = hash_of(row.sender_process);
    if (!row.bare || !row.worker_process.empty()) run->worker = hash_of(row.worker_process);
    if (row.bare) continue;  // the rest stays as it is known, or not known
    run->expires_in = row.expires_in.value_or(0);
    run->known = true;
  }
}

// Those whose rows lack nothing. Not at every heartbeat that finds no room.
void Heartbeats::sweep(Clock::time_point now) {
  if (now - swept_ < kSweepEvery) return;
  swept_ = now;
  std::erase_if(runs_, [now](const auto& entry) {
    const Run& run = entry.second;
    return run.last <= run.written && now - run.last > kForgetAfter;
  });
}

void Heartbeats::doubt() {
  const MutexLock lock(mutex_);
  for (auto& [run_id, run] : runs_) {
    run.known = false;
    run.written = {};
  }
}

std::optional<Heartbeats::Clock::time_point> Heartbeats::last(std::string_view run_id) {
  const MutexLock lock(mutex_);
  const Run* const run = find(run_id);
  return run == nullptr ? std::nullopt : std::optional(run->last);
}

bool Heartbeats::since(std::string_view run_id, Clock::time_point then) {
  const MutexLock lock(mutex_);
  Run* const run = find(run_id);
  if (run == nullptr) return false;
  if (run->last > then) return true;
  run->known = false;
  return false;
}

}  // namespace run_recorder
