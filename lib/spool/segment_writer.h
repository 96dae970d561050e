// Writes one segment: groups of records, each made durable by one fdatasync. What could not be written or synced is
// rolled back, so that it is never read as accepted. For one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "spool/format.h"

namespace run_recorder {

class SegmentWriter {
 public:
  using Sync = int (*)(int fd);  // fdatasync(2), or a test's

  // A new segment with nothing in it, durable under its name in the folder before this returns; no file of that name
  // where it fails. Errors: system_error_of()'s.
  static Result<std::unique_ptr<SegmentWriter>> create(const std::filesystem::path& folder,
                                                       const spool_format::SegmentHeader& header, Sync sync);

  // Appends the bodies as one group, numbered from first_seq, and syncs. With zeros_ahead > 0 that many zero bytes
  // are written behind a small group that extends the file: the next ones overwrite them and change neither its
  // size nor its blocks, which halves the time of a sync. Errors: kFull (no room: rolled back), kIo.
  Result<void> append(std::uint64_t first_seq, std::span<const std::string_view> bodies, std::uint64_t zeros_ahead);
  // Removes the group that was appended last; end: where it began. Best effort.
  void retract(std::uint64_t end);

  // A sync or a rollback failed: append() must not be called any more.
  bool failed() const { return failed_; }
  std::uint64_t end() const { return end_; }
  int fd() const { return file_.get(); }
  // Cuts off what was preallocated. Best effort: a reader takes zeros for the end.
  void trim();

 private:
  SegmentWriter(UniqueFd file, const spool_format::SegmentHeader& header, Sync sync);
  Result<void> write_group(std::uint64_t first_seq, std::span<const std::string_view> bodies,
                           std::uint64_t zeros_ahead);
  Result<void> write_buffer(std::uint64_t zeros_ahead);
  void roll_back();

  UniqueFd file_;
  spool_format::Id incarnation_;
  std::uint32_t salt_;
  Sync sync_;
  std::uint64_t end_ = spool_format::kSegmentHeaderBytes;  // durable up to here
  std::uint64_t written_ = end_;                           // of the group being written
  std::uint64_t zeroed_ = end_;                            // zeros up to here, from written_ on
  bool failed_ = false;
  std::string buffer_;
};

}  // namespace run_recorder
