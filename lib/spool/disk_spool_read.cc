// DiskSpool's reading side.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "spool/disk_spool.h"
#include "spool/folder.h"

namespace run_recorder {

struct DiskSpool::RecordBatch {
  std::uint64_t seq;  // the next one wanted
  const std::size_t max_records;
  const std::size_t max_bytes;
  std::vector<std::string>& damage;
  std::size_t bytes = 0;
  std::vector<SpoolRecord> records = {};

  bool has_room_for(std::size_t size) const {
    return records.size() < max_records && (records.empty() || bytes + size <= max_bytes);
  }
};

namespace {
constexpr std::uint64_t kEndOfSegment = UINT64_MAX;  // in ReportedDamage: what is missing at the segment's end
}  // namespace

Result<std::vector<SpoolRecord>> DiskSpool::read(std::uint64_t seq, std::size_t max_records, std::size_t max_bytes,
                                                 std::vector<std::string>& damage) {
  const MutexLock read_lock(read_mutex_);
  RecordBatch batch{seq, max_records, max_bytes, damage};
  while (batch.records.size() < max_records) {
    const std::optional<Segment> segment = segment_for(batch.seq);
    if (!segment) break;
    batch.seq = std::max(batch.seq, segment->first_seq);
    const Result<bool> exhausted = read_segment(*segment, batch);
    if (!exhausted && batch.records.empty()) return exhausted.error();
    if (!exhausted || !*exhausted) break;
    batch.seq = segment->last_seq + 1;
  }
  return std::move(batch.records);
}

std::optional<Segment> DiskSpool::segment_for(std::uint64_t seq) const {
  const MutexLock state_lock(state_mutex_);
  return table_.find(seq);
}

// By the folder that is open, whatever its path names by now. The segment being written can be read even without a
// name.
Result<UniqueFd> DiskSpool::open_segment(const std::string& name) {
  UniqueFd file(openat(folder_, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (file) return file;
  const Error error = system_error_of("open " + (options_.path / name).string());
  if (error.kind != ErrorKind::kNotFound) return error;
  const MutexLock append_lock(append_mutex_);
  if (!writer_ || writer_name_ != name) return error;
  return open_file(fmt::format("/proc/self/fd/{}", writer_->fd()), O_RDONLY);
}

Result<void> DiskSpool::move_cursor(const Segment& segment, std::uint64_t seq) {
  if (cursor_.reader && cursor_.first_seq == segment.first_seq) {
    const std::uint64_t next = cursor_.held ? cursor_.reader->seq() : cursor_.reader->expected();
    if (next <= seq) {
      cursor_.reader->extend(segment.end, segment.last_seq);
      return {};
    }
  }
  cursor_ = {};
  Result<UniqueFd> file = open_segment(spool_format::segment_name(segment.first_seq));
  if (!file) return file.error();
  cursor_.first_seq = segment.first_seq;
  cursor_.reader = std::make_unique<SegmentReader>(
      std::move(*file), SegmentReader::Extent{segment.first_seq, segment.last_seq, segment.end, segment.incarnation});
  return {};
}

// True when the segment has nothing more, false when the batch is full.
Result<bool> DiskSpool::read_segment(const Segment& segment, RecordBatch& batch) {
  const Result<void> moved = move_cursor(segment, batch.seq);
  if (!moved && moved.error().kind == ErrorKind::kNotFound) {
    const std::optional<Segment> now = segment_for(batch.seq);
    if (now && now->first_seq == segment.first_seq) report_missing(segment, batch);  // else it was deleted just now
    return true;
  }
  if (!moved) return moved.error();
  SegmentReader& reader = *cursor_.reader;
  while (true) {
    if (!cursor_.held) {
      const Result<SegmentReader::Step> step = reader.next();
      if (!step) return step.error();
      if (*step == SegmentReader::Step::kEnd) break;
      if (*step == SegmentReader::Step::kDamage) {
        report_damage(reader.damage(), batch);
        continue;
      }
      cursor_.held = true;
    }
    assert(reader.seq() >= segment.first_seq && reader.seq() <= segment.last_seq);
    if (reader.seq() >= batch.seq) {
      if (!batch.has_room_for(reader.body().size())) return false;
      batch.bytes += reader.body().size();
      batch.seq = reader.seq() + 1;
      batch.records.push_back({reader.seq(), std::string(reader.body())});
    }
    cursor_.held = false;
  }
  if (reader.expected() <= segment.last_seq) report_missing(segment, batch);
  if (reader.offset() < segment.end) report_surplus(segment, batch);
  return true;
}

void DiskSpool::report_damage(const DamagedRange& range, RecordBatch& batch) {
  if (range.to_end) return;  // report_missing() reports it: how many are lost follows from the next segment
  if (range.first_lost + std::max<std::uint64_t>(range.lost, 1) <= batch.seq) return;  // before what was asked for
  if (!reported_.insert({cursor_.first_seq, range.from}).second) return;
  batch.damage.push_back(set_aside_range(options_.path, cursor_.first_seq, cursor_.reader->fd(), range));
}

void DiskSpool::report_missing(const Segment& segment, RecordBatch& batch) {
  const bool opened = cursor_.reader && cursor_.first_seq == segment.first_seq;
  const std::uint64_t first = std::max(batch.seq, opened ? cursor_.reader->expected() : segment.first_seq);
  if (first > segment.last_seq || !reported_.insert({segment.first_seq, kEndOfSegment}).second) return;
  const std::uint64_t lost = segment.last_seq - first + 1;
  const DamagedRange& range = opened ? cursor_.reader->damage() : DamagedRange{};
  if (range.to_end && range.first_lost == cursor_.reader->expected()) {
    DamagedRange to_end = range;
    to_end.first_lost = first;
    to_end.lost = lost;
    batch.damage.push_back(set_aside_range(options_.path, segment.first_seq, cursor_.reader->fd(), to_end));
    return;
  }
  batch.damage.push_back(fmt::format("{} {}; {} {} lost", spool_format::segment_name(segment.first_seq),
                                     opened ? "is truncated" : "is missing", record_words(first, lost),
                                     lost == 1 ? "is" : "are"));
}

// Bytes after the last record that the segment may have, since the next one begins with the number after it.
void DiskSpool::report_surplus(const Segment& segment, RecordBatch& batch) {
  assert(cursor_.reader && cursor_.first_seq == segment.first_seq);
  const std::uint64_t from = cursor_.reader->offset();
  const Result<std::uint64_t> end = end_of_data(cursor_.reader->fd(), from, segment.end);
  if (!end || *end == from || !reported_.insert({segment.first_seq, from}).second) return;
  batch.damage.push_back(fmt::format("{}: bytes {} to {} follow its last record and are ignored",
                                     spool_format::segment_name(segment.first_seq), from, *end - 1));
}

}  // namespace run_recorder
