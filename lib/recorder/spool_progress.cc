#include "recorder/spool_progress.h"

#include <algorithm>
#include <cassert>
#include <nlohmann/json.hpp>
#include <ranges>
#include <utility>

namespace run_recorder {
namespace {

// How far an incarnation's range is applied there; 0: it has no position.
std::uint64_t position_in(const Checkpoint& checkpoint, const std::string& incarnation) {
  const auto found = checkpoint.applied.find(incarnation);
  return found == checkpoint.applied.end() ? 0 : found->second;
}

}  // namespace

std::vector<Incarnation> known_incarnations(const std::vector<Incarnation>& on_disk, std::vector<Incarnation> known) {
  const Incarnation& current = on_disk.back();
  const auto is_behind = [&](const Incarnation& one) { return one.first_seq >= current.first_seq; };
  std::erase_if(known, is_behind);
  for (const Incarnation& one : on_disk) {
    const bool missing = std::ranges::find(known, one.id, &Incarnation::id) == known.end();
    if (missing && !is_behind(one)) known.push_back(one);
  }
  std::ranges::stable_sort(known, {}, &Incarnation::first_seq);
  // One that began with the same number as the next wrote nothing.
  const auto wrote = std::unique(known.rbegin(), known.rend(), [](const Incarnation& next, const Incarnation& one) {
    return next.first_seq == one.first_seq;
  });
  known.erase(known.begin(), wrote.base());
  known.push_back(current);
  return known;
}

SpoolProgress::SpoolProgress(const std::vector<Incarnation>& known, std::uint64_t first_kept,
                             std::function<std::uint64_t()> newest)
    : newest_(std::move(newest)) {
  assert(!known.empty());
  for (std::size_t i = 0; i < known.size(); ++i) {
    IncarnationRange range;
    range.incarnation = known[i].id;
    range.begin = known[i].first_seq;
    const bool is_current = i + 1 == known.size();
    range.last = is_current ? 0 : known[i + 1].first_seq - 1;
    // Those of which nothing is kept any more have a place too: a database that goes back may have forgotten them.
    range.first = is_current ? range.begin : std::clamp(first_kept, range.begin, range.last + 1);
    range.done = range.first - 1;
    ranges_.push_back(std::move(range));
  }
}

std::uint64_t SpoolProgress::last_of(std::size_t range) const {
  if (range + 1 < ranges_.size()) return ranges_[range].last;
  return std::max(newest_(), ranges_[range].first - 1);
}

std::uint64_t SpoolProgress::waiting() const {
  std::uint64_t waiting = 0;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const std::uint64_t last = last_of(i);
    if (last > ranges_[i].done) waiting += last - ranges_[i].done;
  }
  return waiting;
}

std::uint64_t SpoolProgress::next_seq() const {
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    if (ranges_[i].done < last_of(i)) return ranges_[i].done + 1;
  }
  return last_of(ranges_.size() - 1) + 1;
}

std::uint64_t SpoolProgress::planned_of(std::size_t range) const {
  return planned_ && planned_->range == range ? planned_->to : ranges_[range].done;
}

void SpoolProgress::check([[maybe_unused]] std::size_t range) const {
  assert(ranges_[range].begin <= ranges_[range].first);
  assert(ranges_[range].first <= ranges_[range].done + 1);
  assert(ranges_[range].done <= planned_of(range));
  assert(planned_of(range) <= last_of(range));
}

SpoolProgress::Part SpoolProgress::next_part() const {
  std::size_t range = 0;
  while (range + 1 < ranges_.size() && planned_of(range) >= last_of(range)) ++range;
  return {range, planned_of(range), last_of(range)};
}

BatchWrite SpoolProgress::next_write(std::size_t range) const {
  BatchWrite write;
  write.incarnation = ranges_[range].incarnation;
  write.from = planned_ && planned_->range == range ? planned_->to : ranges_[range].stored;
  write.ledger = planned_ ? planned_->ledger : ledger_;
  return write;
}

void SpoolProgress::plan(std::size_t range, const BatchWrite& write) {
  assert(!planned_);
  assert(write.to > ranges_[range].done);
  planned_.emplace(Planned{range, write.to, write.ledger});
  check(range);
}

void SpoolProgress::committed(std::size_t range, std::uint64_t to, const Ledger& ledger) {
  assert(!planned_ || (planned_->range == range && planned_->to == to));
  assert(to > ranges_[range].done);
  planned_.reset();
  ranges_[range].done = to;
  ranges_[range].stored = to;
  ledger_ = ledger;
  check(range);
}

void SpoolProgress::leave_rest(std::size_t range) {
  assert(!planned_);
  ranges_[range].last = ranges_[range].done;
}

BatchWrite SpoolProgress::place() const {
  const auto placed =
      std::find_if(ranges_.rbegin(), ranges_.rend(), [](const IncarnationRange& range) { return range.stored > 0; });
  const IncarnationRange& range = placed == ranges_.rend() ? ranges_.back() : *placed;
  BatchWrite write;
  write.incarnation = range.incarnation;
  write.from = write.to = range.stored;
  write.ledger = ledger_;
  return write;
}

bool SpoolProgress::matches(const Checkpoint& checkpoint) const {
  return checkpoint.ledger == ledger_ && std::ranges::all_of(ranges_, [&](const IncarnationRange& range) {
           return range.stored == position_in(checkpoint, range.incarnation);
         });
}

void SpoolProgress::adopt(const Checkpoint& checkpoint) {
  abandon();
  for (IncarnationRange& range : ranges_) {
    range.stored = position_in(checkpoint, range.incarnation);
    range.done = std::max(range.stored, range.first - 1);
  }
  ledger_ = checkpoint.ledger;
}

void SpoolProgress::keep_from(std::uint64_t first_kept) {
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    IncarnationRange& range = ranges_[i];
    range.first = std::max(range.first, std::min(first_kept, last_of(i) + 1));
    range.done = std::max(range.stored, range.first - 1);
  }
}

std::optional<BatchWrite> SpoolProgress::next_forgotten() const {
  for (const IncarnationRange& range : ranges_) {
    const std::uint64_t stored = std::max(range.stored, range.begin - 1);
    if (stored + 1 >= range.first) continue;
    BatchWrite write;
    write.incarnation = range.incarnation;
    write.from = range.stored;
    write.to = range.first - 1;
    write.ledger = ledger_;
    write.ledger.applied += write.to - stored;
    return write;
  }
  return std::nullopt;
}

std::uint64_t SpoolProgress::forgotten(const BatchWrite& write) {
  const auto range = std::ranges::find(ranges_, write.incarnation, &IncarnationRange::incarnation);
  assert(range != ranges_.end() && write.to > range->stored);
  range->stored = write.to;
  ledger_ = write.ledger;
  return write.to - std::max(write.from, range->begin - 1);
}

std::string SpoolProgress::hint(std::string_view recorder) const {
  nlohmann::json hint;
  hint["recorder"] = recorder;
  hint["ledger"] = {{"applied", ledger_.applied},
                    {"duplicate", ledger_.duplicate},
                    {"dead_letters", ledger_.dead_letters},
                    {"dead_letters_removed", ledger_.dead_letters_removed},
                    {"conflicts", ledger_.conflicts}};
  hint["positions"] = nlohmann::json::object();
  for (const IncarnationRange& range : ranges_) hint["positions"][range.incarnation] = range.done;
  return hint.dump();
}

void SpoolProgress::load_hint(const std::string& text, std::string_view recorder, const std::string& origin) {
  const auto hint = nlohmann::json::parse(text, nullptr, false);
  if (!hint.is_object()) return;
  try {
    const auto& ledger = hint.at("ledger");
    Ledger known = ledger_;
    if (hint.value("recorder", origin) == recorder) {
      known.applied = ledger.at("applied");
      known.duplicate = ledger.at("duplicate");
      known.dead_letters = ledger.at("dead_letters");
      known.dead_letters_removed = ledger.at("dead_letters_removed");
      known.conflicts = ledger.at("conflicts");
    }
    const auto& positions = hint.at("positions");
    std::vector<IncarnationRange> ranges = ranges_;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const std::uint64_t done = positions.value(ranges[i].incarnation, std::uint64_t{0});
      ranges[i].done = std::clamp(done, ranges[i].first - 1, last_of(i));
    }
    ranges_ = std::move(ranges);
    ledger_ = known;
  } catch (const nlohmann::json::exception&) {
    // Malformed: the database will say.
  }
}

}  // namespace run_recorder
