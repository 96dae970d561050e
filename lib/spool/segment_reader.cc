#include "spool/segment_reader.h"

#include <algorithm>
#include <cassert>

#include "base/little_endian.h"

namespace run_recorder {
namespace {

using namespace spool_format;

constexpr std::uint64_t kWindowBytes = std::uint64_t{256} * 1024;

bool all_zero(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; });
}

// The full number of which a record header holds the lower half: the first one from `from` on.
std::uint64_t widen(std::uint32_t seq_low, std::uint64_t from) {
  return from + static_cast<std::uint32_t>(seq_low - static_cast<std::uint32_t>(from & 0xffffffff));
}

}  // namespace

SegmentReader::SegmentReader(UniqueFd file, const Extent& extent)
    : file_(std::move(file)), extent_(extent), expected_(extent.first_seq) {
  if (extent_.incarnation) salt_ = record_salt(*extent_.incarnation);
}

void SegmentReader::extend(std::uint64_t end, std::uint64_t last_seq) {
  assert(end >= extent_.end && last_seq >= extent_.last_seq);
  extent_.end = end;
  extent_.last_seq = last_seq;
}

Result<std::string_view> SegmentReader::peek(std::uint64_t offset, std::uint64_t size) {
  if (offset >= extent_.end) return std::string_view{};
  size = std::min(size, extent_.end - offset);
  if (offset < buffer_offset_ || offset + size > buffer_offset_ + buffered_) {
    const std::uint64_t wanted = std::min(std::max(size, kWindowBytes), extent_.end - offset);
    if (buffer_.size() < wanted) buffer_.resize(wanted);
    buffered_ = 0;
    const Result<std::size_t> got = read_at(file_.get(), buffer_.data(), wanted, static_cast<off_t>(offset));
    if (!got) return got.error();
    buffer_offset_ = offset;
    buffered_ = *got;
  }
  const std::uint64_t begin = offset - buffer_offset_;
  return std::string_view(buffer_.data() + begin, std::min<std::uint64_t>(size, buffered_ - begin));
}

Result<SegmentReader::Step> SegmentReader::next() {
  body_ = {};
  while (offset_ < extent_.end && expected_ <= extent_.last_seq) {
    const Result<bool> group = take_group();
    if (!group) return group.error();
    if (*group) continue;
    const Result<bool> record = take_record();
    if (!record) return record.error();
    if (*record) return Step::kRecord;
    const Result<bool> zero = is_zero_to_end();
    if (!zero) return zero.error();
    if (*zero) return Step::kEnd;
    return find_next_valid();
  }
  return Step::kEnd;
}

Result<bool> SegmentReader::take_group() {
  std::uint64_t seq = 0;
  const Result<bool> valid = group_at(offset_, seq);
  if (!valid || !*valid || seq != expected_) return valid ? Result<bool>(false) : valid;
  last_group_offset_ = offset_;
  offset_ += kGroupHeaderBytes;
  return true;
}

Result<bool> SegmentReader::take_record() {
  std::uint64_t seq = expected_;
  const Result<bool> valid = record_at(offset_, seq);
  if (!valid || !*valid || seq != expected_) return valid ? Result<bool>(false) : valid;
  const std::uint64_t length = parse_record_header(*peek(offset_, kRecordHeaderBytes)).length;
  const Result<std::string_view> whole = peek(offset_, kRecordHeaderBytes + length);
  if (!whole) return whole.error();
  assert(whole->size() == kRecordHeaderBytes + length);
  body_ = whole->substr(kRecordHeaderBytes);
  seq_ = expected_++;
  offset_ += whole->size();
  return true;
}

// A valid group header of this incarnation there; seq becomes its first number.
Result<bool> SegmentReader::group_at(std::uint64_t offset, std::uint64_t& seq) {
  const Result<std::string_view> bytes = peek(offset, kGroupHeaderBytes);
  if (!bytes) return bytes.error();
  const std::optional<GroupHeader> header = parse_group_header(*bytes);
  if (!header || header->first_seq < expected_ || header->first_seq > extent_.last_seq) return false;
  if (extent_.incarnation && header->incarnation != *extent_.incarnation) return false;
  if (!extent_.incarnation) {
    extent_.incarnation = header->incarnation;
    salt_ = record_salt(header->incarnation);
  }
  seq = header->first_seq;
  group_last_seq_ = header->first_seq + header->count - 1;
  return true;
}

// A valid record there, with a number from expected_ on; seq becomes its number.
Result<bool> SegmentReader::record_at(std::uint64_t offset, std::uint64_t& seq) {
  if (!extent_.incarnation) return false;  // its checksums cannot be computed before a group was found
  const Result<std::string_view> head = peek(offset, kRecordHeaderBytes);
  if (!head) return head.error();
  if (head->size() < kRecordHeaderBytes) return false;
  const RecordHeader header = parse_record_header(*head);
  seq = widen(header.seq_low, expected_);
  const std::uint64_t room = extent_.end - offset - kRecordHeaderBytes;
  if (header.length > room || header.length > kMaxRecordBytes || seq > extent_.last_seq) return false;
  if (seq - expected_ > (offset - offset_) / kRecordHeaderBytes) return false;  // the lost ones took room too
  const Result<std::string_view> whole = peek(offset, kRecordHeaderBytes + header.length);
  if (!whole) return whole.error();
  if (whole->size() < kRecordHeaderBytes + header.length) return false;  // the file became shorter
  return record_crc(salt_, seq, whole->substr(kRecordHeaderBytes)) == header.crc;
}

Result<bool> SegmentReader::is_zero_to_end() {
  for (std::uint64_t at = offset_; at < extent_.end;) {
    const Result<std::string_view> bytes = peek(at, kWindowBytes);
    if (!bytes) return bytes.error();
    if (bytes->empty()) return true;
    if (!all_zero(*bytes)) return false;
    at += bytes->size();
  }
  return true;
}

// Where in bytes, which begin at `offset`, a header may be; bytes.size() where nowhere. Cheap: no checksum yet.
std::size_t SegmentReader::first_candidate(std::string_view bytes, std::uint64_t offset) const {
  const auto from = static_cast<std::uint32_t>(expected_ & 0xffffffff);
  for (std::size_t i = 0; i + kRecordHeaderBytes <= bytes.size(); ++i) {
    const std::uint32_t length = little_endian_at<std::uint32_t>(bytes.data() + i);
    if (length == kGroupMagic) return i;
    const std::uint32_t ahead = little_endian_at<std::uint32_t>(bytes.data() + i + 4) - from;
    if (ahead <= (offset + i - offset_) / kRecordHeaderBytes && length <= extent_.end - offset - i) return i;
  }
  return bytes.size();
}

Result<SegmentReader::Step> SegmentReader::find_next_valid() {
  std::uint64_t at = offset_;
  while (at + kRecordHeaderBytes <= extent_.end) {
    const Result<std::string_view> bytes = peek(at, kWindowBytes);
    if (!bytes) return bytes.error();
    if (bytes->size() < kRecordHeaderBytes) break;  // the file became shorter
    const std::size_t candidate = first_candidate(*bytes, at);
    if (candidate == bytes->size()) {
      at += bytes->size() - kRecordHeaderBytes + 1;
      continue;
    }
    at += candidate;
    std::uint64_t seq = 0;
    Result<bool> valid = group_at(at, seq);
    if (valid && !*valid) valid = record_at(at, seq);
    if (!valid) return valid.error();
    if (*valid) {
      damage_ = {offset_, at, expected_, seq - expected_, false};
      offset_ = at;
      expected_ = seq;
      return Step::kDamage;
    }
    ++at;
  }
  const std::uint64_t lost = group_last_seq_ >= expected_ ? group_last_seq_ - expected_ + 1 : 0;
  damage_ = {offset_, extent_.end, expected_, lost, true};
  offset_ = extent_.end;
  return Step::kDamage;
}

Result<std::uint64_t> end_of_data(int fd, std::uint64_t begin, std::uint64_t end) {
  std::vector<char> buffer(kWindowBytes);
  while (end > begin) {
    const std::uint64_t size = std::min(kWindowBytes, end - begin);
    const Result<std::size_t> got = read_at(fd, buffer.data(), size, static_cast<off_t>(end - size));
    if (!got) return got.error();
    for (std::size_t i = *got; i > 0; --i) {
      if (buffer[i - 1] != 0) return end - size + i;
    }
    end -= size;
  }
  return begin;
}

}  // namespace run_recorder
