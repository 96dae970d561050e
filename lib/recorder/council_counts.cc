#include "recorder/council_counts.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "run/names.h"

namespace run_recorder {
namespace {

void raise(std::optional<Timestamp>& latest, Timestamp time) {
  latest = latest ? std::max(*latest, time) : time;
}

std::size_t index_of_end(Status status) {
  const auto ends = terminal_statuses();
  return static_cast<std::size_t>(std::ranges::find(ends, status) - ends.begin());
}

// What another program wrote into a row may be no text that Prometheus reads.
bool may_be_label(std::string_view council) {
  return is_name(council) && valid_utf8(council);
}

void add_duration(CouncilTotals& totals, std::chrono::microseconds duration) {
  const auto& bounds = CouncilTotals::kDurationBounds;
  duration = std::max(duration, std::chrono::microseconds{0});
  const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), duration) - bounds.begin();
  ++totals.durations[static_cast<std::size_t>(bucket)];
  totals.duration_sum += duration;
}

}  // namespace

// The council's own totals, which begin here, or those of the others.
CouncilTotals& CouncilCounts::of(std::string_view council) {
  if (const auto found = councils_.find(council); found != councils_.end()) return found->second;
  if (councils_.size() >= kCouncils || council == kOtherCouncils || !may_be_label(council)) {
    has_others_ = true;
    return others_;
  }
  CouncilTotals& totals = councils_[std::string(council)];
  totals.council = council;
  if (has_counted_) totals.running = 0;
  return totals;
}

void CouncilCounts::committed(std::span<const RunChange> changes, Timestamp now) {
  const MutexLock lock(mutex_);
  for (const RunChange& change : changes) {
    if (!change.insert && !change.started && !change.ended) continue;
    const Run& run = change.after;
    CouncilTotals& totals = of(run.council);
    if (change.started) {
      ++totals.starts;
      raise(totals.last_start, std::min(*run.started_at, now));
    }
    if (change.ended) add_end(totals, run, now);
  }
}

void CouncilCounts::add_end(CouncilTotals& totals, const Run& run, Timestamp now) {
  ++totals.ends[index_of_end(run.status)];
  if (!run.finalized_at) return;
  const bool completed = run.status == Status::kCompleted;
  if (completed) raise(totals.last_success, std::min(*run.finalized_at, now));
  if (!run.started_at || !(completed || run.status == Status::kFailed)) return;
  add_duration(totals, std::chrono::duration_cast<std::chrono::microseconds>(*run.finalized_at - *run.started_at));
}

void CouncilCounts::marked_stuck(std::string_view council) {
  const MutexLock lock(mutex_);
  ++of(council).ends[index_of_end(Status::kStuck)];
}

void CouncilCounts::counted(const RunningCouncils& running) {
  const MutexLock lock(mutex_);
  has_counted_ = true;
  for (auto& [name, totals] : councils_) totals.running = 0;
  others_.running = 0;
  std::uint64_t others = running.others;
  for (const auto& [name, rows] : running.rows) {
    const auto found = councils_.find(name);
    if (found == councils_.end()) {
      others += rows;
    } else {
      *found->second.running += rows;
    }
  }
  *others_.running += others;
  has_others_ = has_others_ || others > 0;
}

void CouncilCounts::read(std::span<const RecentCouncil> recent, Timestamp now) {
  const MutexLock lock(mutex_);
  for (const RecentCouncil& council : recent) {
    CouncilTotals& totals = of(council.council);
    if (council.last_start) raise(totals.last_start, std::min(*council.last_start, now));
    if (council.last_success) raise(totals.last_success, std::min(*council.last_success, now));
  }
}

std::vector<CouncilTotals> CouncilCounts::totals() const {
  const MutexLock lock(mutex_);
  std::vector<CouncilTotals> all;
  all.reserve(councils_.size() + 1);
  for (const auto& [name, totals] : councils_) all.push_back(totals);
  if (!has_others_ && councils_.size() < kCouncils) return all;
  CouncilTotals others = others_;
  others.council = kOtherCouncils;
  others.last_start.reset();
  others.last_success.reset();
  all.push_back(std::move(others));
  return all;
}

}  // namespace run_recorder
