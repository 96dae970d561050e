#include "recorder/open_runs.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <utility>

namespace run_recorder {
namespace {

using std::chrono::microseconds;

// Of a row's start: 32 bits of them are 497 days, around the first start that is remembered. What lies outside is
// not.
constexpr microseconds kStartUnit{10'000};
constexpr std::uint32_t kMiddle = std::uint32_t{1} << 31U;
constexpr std::size_t kSmallestShard = 4;

bool is_plain(const Run& row) {
  return row.status == Status::kRunning && row.started_at && !row.finalized_at && row.stuck_pass.empty() &&
         !row.result && !row.error && !row.oban_job_state_at_finalize && row.last_seq > 0 &&
         row.last_seq <= std::numeric_limits<std::uint16_t>::max();
}

std::size_t next_place(std::size_t at, std::size_t places) {
  return at + 1 == places ? 0 : at + 1;
}

}  // namespace

std::size_t OpenRuns::Shard::place(std::uint32_t tag) const {
  std::size_t at = home(tag);
  while (entries[at].tag != 0 && entries[at].tag != tag) at = next_place(at, entries.size());
  return at;
}

const OpenRuns::Entry* OpenRuns::Shard::find(std::uint32_t tag) const {
  if (entries.empty()) return nullptr;
  const Entry& entry = entries[place(tag)];
  return entry.tag == 0 ? nullptr : &entry;
}

// By a quarter: the places cost more than the moving.
void OpenRuns::Shard::grow() {
  std::vector<Entry> old(std::max(kSmallestShard, entries.size() + entries.size() / 4 + 1));
  old.swap(entries);
  for (const Entry& entry : old) {
    if (entry.tag != 0) entries[place(entry.tag)] = entry;
  }
}

// Moves those behind it up that would no longer be found from their home.
void OpenRuns::Shard::erase(std::size_t at) {
  const std::size_t places = entries.size();
  const auto distance = [places](std::size_t from, std::size_t to) {
    return to >= from ? to - from : to + places - from;
  };
  std::size_t hole = at;
  for (std::size_t next = next_place(at, places); entries[next].tag != 0; next = next_place(next, places)) {
    if (distance(home(entries[next].tag), next) < distance(hole, next)) continue;
    entries[hole] = entries[next];
    hole = next;
  }
  entries[hole] = {};
  --size;
}

OpenRuns::Key OpenRuns::key_of(std::string_view run_id) {
  const std::uint64_t hash = std::hash<std::string_view>{}(run_id);
  const auto tag = static_cast<std::uint32_t>(hash);
  return {.shard = hash >> 52U, .tag = std::max(tag, std::uint32_t{1})};
}

std::optional<OpenRuns::OpenRun> OpenRuns::find(std::string_view run_id) const {
  const auto [shard, tag] = key_of(run_id);
  const Entry* entry = shards_[shard].find(tag);
  if (entry == nullptr) return std::nullopt;
  return OpenRun{.council = councils_[entry->council()].name,
                 .started_at = *origin_ + kStartUnit * entry->started,
                 .last_seq = entry->last_seq,
                 .has_job = entry->has_job()};
}

void OpenRuns::put(const Run& row) {
  const auto [shard_at, tag] = key_of(row.run_id);
  Shard& shard = shards_[shard_at];
  const auto started = is_plain(row) ? started_units(*row.started_at) : std::nullopt;
  const auto council = started ? hold_council(row.council) : std::nullopt;
  if (!council) return erase(row.run_id);
  // One place in seven stays empty, or the ways to the others grow long.
  if (shard.entries.size() * 6 <= (shard.size + 1) * 7 && size_ < max_runs_) shard.grow();
  if (shard.entries.empty()) return let_go(*council);
  std::size_t at = shard.place(tag);
  if (shard.entries[at].tag != 0) {
    let_go(shard.entries[at].council());
  } else if (size_ < max_runs_) {
    ++size_;
    ++shard.size;
  } else {
    at = shard.home(tag);
    if (shard.entries[at].tag == 0) return let_go(*council);
    let_go(shard.entries[at].council());
  }
  const std::size_t has_job = row.oban_job_id || row.job_id ? 1 : 0;
  shard.entries[at] = {.tag = tag,
                       .started = *started,
                       .last_seq = static_cast<std::uint16_t>(row.last_seq),
                       .council_and_job = static_cast<std::uint16_t>(*council << 1U | has_job)};
}

void OpenRuns::erase(std::string_view run_id) {
  const auto [shard_at, tag] = key_of(run_id);
  Shard& shard = shards_[shard_at];
  if (shard.find(tag) == nullptr) return;
  const std::size_t at = shard.place(tag);
  let_go(shard.entries[at].council());
  shard.erase(at);
  --size_;
}

void OpenRuns::clear() {
  for (Shard& shard : shards_) shard = {};
  councils_.clear();
  council_places_.clear();
  origin_.reset();
  size_ = 0;
}

std::optional<std::size_t> OpenRuns::hold_council(const std::string& name) {
  if (const auto found = council_places_.find(name); found != council_places_.end()) {
    ++councils_[found->second].runs;
    return found->second;
  }
  std::size_t place = councils_.size();
  if (place < kCouncils) {
    councils_.emplace_back();
  } else {
    const auto unused = std::ranges::find(councils_, std::size_t{0}, &Council::runs);
    if (unused == councils_.end()) return std::nullopt;
    council_places_.erase(unused->name);
    place = static_cast<std::size_t>(unused - councils_.begin());
  }
  councils_[place] = {.name = name, .runs = 1};
  council_places_.emplace(name, place);
  return place;
}

std::optional<std::uint32_t> OpenRuns::started_units(Timestamp started_at) {
  if (!origin_) origin_ = started_at - kStartUnit * kMiddle;
  const auto units = (started_at - *origin_) / kStartUnit;
  if (started_at < *origin_ || units > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(units);
}

}  // namespace run_recorder
