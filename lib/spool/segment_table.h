// The segments on disk and how far they are released: pure bookkeeping in memory, no I/O. The spool guards it by a
// mutex.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/time.h"
#include "spool/format.h"
#include "spool/spool.h"

namespace run_recorder {

struct Segment {
  std::uint64_t first_seq = 1;
  std::uint64_t last_seq = 0;  // first_seq - 1 while it holds none
  spool_format::Id incarnation{};
  std::uint64_t end = spool_format::kSegmentHeaderBytes;  // of what is durable in the file
  std::optional<Timestamp> released_since = {};  // since when all of it is released, as delete_expired() saw it

  std::uint64_t bytes() const { return end - spool_format::kSegmentHeaderBytes; }
};

class SegmentTable {
 public:
  // Ascending; one with the number of the last replaces it (it held no record).
  void push(const Segment& segment);
  // The last segment got records.
  void grow(std::uint64_t end, std::uint64_t last_seq);

  // Any number: clamped between the one before the first segment and the last record.
  void release(std::uint64_t seq);
  std::uint64_t released() const { return released_; }

  std::uint64_t pending_bytes() const;
  std::uint64_t kept_bytes() const { return total_bytes_ - pending_bytes(); }
  std::uint64_t total_bytes() const { return total_bytes_; }
  // Of the segments that take_released() would take, one after the other.
  std::uint64_t releasable_bytes() const;

  // The segment that holds seq, or else the next one; empty behind the last.
  std::optional<Segment> find(std::uint64_t seq) const;
  const std::deque<Segment>& segments() const { return segments_; }
  std::uint64_t last_seq() const { return last_seq_; }
  void set_last_seq(std::uint64_t seq) { last_seq_ = seq; }

  // Removes and returns the oldest segment where it may go: all released, not the last, and either since `keep` or
  // because `total` is to get below wanted_total.
  std::optional<Segment> take_expired(Timestamp now, std::chrono::milliseconds keep, std::uint64_t wanted_total);
  // Removes and returns the oldest segment if all of it is released and it is not the last.
  std::optional<Segment> take_released();
  // Whether take_released() would find one.
  bool front_is_released() const;
  // The last segment holds records, and all are released since `keep`.
  bool last_is_expired(Timestamp now, std::chrono::milliseconds keep);

  std::vector<Incarnation> incarnations() const;

 private:
  bool is_released(const Segment& segment) const { return segment.last_seq <= released_; }
  Segment take_front();

  std::deque<Segment> segments_;
  std::size_t released_count_ = 0;    // the first so many segments are all released
  std::uint64_t released_bytes_ = 0;  // of these
  std::uint64_t total_bytes_ = 0;
  std::uint64_t released_ = 0;
  std::uint64_t last_seq_ = 0;
};

}  // namespace run_recorder
