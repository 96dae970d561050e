// Reads one segment's records in order, checks every byte of them, and resynchronises after damage. Used by the
// spool, by the inspector beside a live daemon, and by the fuzzer; it changes nothing. For one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "spool/format.h"

namespace run_recorder {

// Bytes of a segment that are not what was written.
struct DamagedRange {
  std::uint64_t from = 0;  // byte offsets in the file, to exclusive
  std::uint64_t to = 0;
  std::uint64_t first_lost = 0;  // sequence numbers that should have been there; lost is 0 where only a group
  std::uint64_t lost = 0;        // header was hit; where nothing valid follows: as many as the last group says
  bool to_end = false;           // nothing valid follows
};

class SegmentReader {
 public:
  struct Extent {
    std::uint64_t first_seq = 1;
    std::uint64_t last_seq = UINT64_MAX;  // what follows this record is ignored
    std::uint64_t end = 0;                // bytes of the file that may be read
    // Where the segment's header cannot be read: taken from the first valid group.
    std::optional<spool_format::Id> incarnation;
  };
  SegmentReader(UniqueFd file, const Extent& extent);

  enum class Step {
    kRecord,  // seq(), body()
    kDamage,  // damage()
    kEnd,     // all that there is up to the extent's end; after extend() it goes on
  };
  // kIo where the file cannot be read; nothing is skipped then, and the next call tries again.
  Result<Step> next();

  std::uint64_t seq() const { return seq_; }
  std::string_view body() const { return body_; }  // valid until the next call
  const DamagedRange& damage() const { return damage_; }

  // Where the next step begins, and the number the next record must have.
  std::uint64_t offset() const { return offset_; }
  std::uint64_t expected() const { return expected_; }
  // Where the last valid group header begins; 0 before the first.
  std::uint64_t last_group_offset() const { return last_group_offset_; }
  const std::optional<spool_format::Id>& incarnation() const { return extent_.incarnation; }
  int fd() const { return file_.get(); }

  // For a segment that is still being written, and when a next one begins.
  void extend(std::uint64_t end, std::uint64_t last_seq);

 private:
  Result<std::string_view> peek(std::uint64_t offset, std::uint64_t size);
  Result<bool> take_group();
  Result<bool> take_record();
  Result<bool> is_zero_to_end();
  Result<bool> group_at(std::uint64_t offset, std::uint64_t& seq);
  Result<bool> record_at(std::uint64_t offset, std::uint64_t& seq);
  std::size_t first_candidate(std::string_view bytes, std::uint64_t offset) const;
  Result<Step> find_next_valid();

  UniqueFd file_;
  Extent extent_;
  std::uint32_t salt_ = 0;
  std::uint64_t offset_ = spool_format::kSegmentHeaderBytes;
  std::uint64_t expected_;
  std::uint64_t last_group_offset_ = 0;
  std::uint64_t group_last_seq_ = 0;
  std::uint64_t seq_ = 0;
  std::string_view body_;
  DamagedRange damage_;
  std::vector<char> buffer_;  // the file's bytes from buffer_offset_, buffered_ of them
  std::uint64_t buffer_offset_ = 0;
  std::size_t buffered_ = 0;
};

// The bytes up to the last one that is not zero: what preallocation left is not counted. end is the file's size.
Result<std::uint64_t> end_of_data(int fd, std::uint64_t begin, std::uint64_t end);

}  // namespace run_recorder
