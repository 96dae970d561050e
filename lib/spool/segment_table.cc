#include "spool/segment_table.h"

#include <algorithm>
#include <cassert>

namespace run_recorder {
namespace {

bool since(std::optional<Timestamp>& begin, Timestamp now, std::chrono::milliseconds keep) {
  if (!begin || now < *begin) begin = now;  // the clock may have been set back
  return now - *begin >= keep;
}

}  // namespace

void SegmentTable::push(const Segment& segment) {
  assert(segments_.empty() || segment.first_seq >= segments_.back().first_seq);
  if (!segments_.empty() && segments_.back().first_seq == segment.first_seq) {
    assert(segments_.back().last_seq < segment.first_seq);
    if (released_count_ == segments_.size()) --released_count_;
    total_bytes_ -= segments_.back().bytes();
    segments_.pop_back();
  }
  segments_.push_back(segment);
  total_bytes_ += segment.bytes();
  last_seq_ = std::max(last_seq_, segment.last_seq);
  release(released_);
}

void SegmentTable::grow(std::uint64_t end, std::uint64_t last_seq) {
  assert(!segments_.empty());
  Segment& last = segments_.back();
  assert(end >= last.end && last_seq >= last.last_seq);
  if (released_count_ == segments_.size()) {
    --released_count_;
    released_bytes_ -= last.bytes();
  }
  total_bytes_ += end - last.end;
  last.end = end;
  last.last_seq = last_seq;
  last.released_since.reset();
  last_seq_ = last_seq;
  release(released_);
}

void SegmentTable::release(std::uint64_t seq) {
  const std::uint64_t lowest = segments_.empty() ? last_seq_ : segments_.front().first_seq - 1;
  released_ = std::max(std::min(seq, last_seq_), std::min(lowest, last_seq_));
  while (released_count_ < segments_.size() && is_released(segments_[released_count_])) {
    released_bytes_ += segments_[released_count_++].bytes();
  }
  while (released_count_ > 0 && !is_released(segments_[released_count_ - 1])) {
    Segment& again = segments_[--released_count_];
    again.released_since.reset();
    released_bytes_ -= again.bytes();
  }
  assert(released_bytes_ <= total_bytes_);
}

std::uint64_t SegmentTable::pending_bytes() const {
  const std::uint64_t pending = total_bytes_ - released_bytes_;
  if (released_count_ == segments_.size()) return pending;
  // Within a segment by share: where each record lies is not kept in memory.
  const Segment& part = segments_[released_count_];
  if (released_ < part.first_seq) return pending;
  const auto records = static_cast<double>(part.last_seq - part.first_seq + 1);
  const double share = static_cast<double>(released_ - part.first_seq + 1) / records;
  return pending - static_cast<std::uint64_t>(share * static_cast<double>(part.bytes()));
}

std::optional<Segment> SegmentTable::find(std::uint64_t seq) const {
  auto after =
      std::upper_bound(segments_.begin(), segments_.end(), seq,
                       [](std::uint64_t number, const Segment& segment) { return number < segment.first_seq; });
  if (after != segments_.begin() && std::prev(after)->last_seq >= seq) --after;
  while (after != segments_.end() && after->last_seq < after->first_seq) ++after;  // holds none
  if (after == segments_.end()) return std::nullopt;
  return *after;
}

Segment SegmentTable::take_front() {
  assert(front_is_released());
  Segment front = segments_.front();
  segments_.pop_front();
  --released_count_;
  released_bytes_ -= front.bytes();
  total_bytes_ -= front.bytes();
  return front;
}

std::optional<Segment> SegmentTable::take_expired(Timestamp now, std::chrono::milliseconds keep,
                                                  std::uint64_t wanted_total) {
  // The last one may be written to at any moment; all others are judged, so that each one's time begins to count.
  for (std::size_t i = 0; i < released_count_ && i + 1 < segments_.size(); ++i) {
    if (!segments_[i].released_since) since(segments_[i].released_since, now, keep);
  }
  if (released_count_ == 0 || segments_.size() < 2) return std::nullopt;
  if (!since(segments_.front().released_since, now, keep) && total_bytes_ <= wanted_total) return std::nullopt;
  return take_front();
}

std::optional<Segment> SegmentTable::take_released() {
  if (!front_is_released()) return std::nullopt;
  return take_front();
}

bool SegmentTable::front_is_released() const {
  return released_count_ > 0 && segments_.size() >= 2;
}

std::uint64_t SegmentTable::releasable_bytes() const {
  const bool with_last = !segments_.empty() && released_count_ == segments_.size();
  return released_bytes_ - (with_last ? segments_.back().bytes() : 0);
}

bool SegmentTable::last_is_expired(Timestamp now, std::chrono::milliseconds keep) {
  if (segments_.empty() || segments_.back().bytes() == 0 || released_count_ < segments_.size()) return false;
  return since(segments_.back().released_since, now, keep);
}

std::vector<Incarnation> SegmentTable::incarnations() const {
  std::vector<Incarnation> found;
  for (const Segment& segment : segments_) {
    if (segment.last_seq < segment.first_seq) continue;
    std::string id = spool_format::to_hex(segment.incarnation);
    if (found.empty() || found.back().id != id) found.push_back({std::move(id), segment.first_seq});
  }
  return found;
}

}  // namespace run_recorder
