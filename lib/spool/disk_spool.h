// The spool on disk: Spool's one implementation, put together from the table of segments, the writer and the reader.
// See spool.h for which thread may call what.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "spool/folder.h"
#include "spool/folder_lock.h"
#include "spool/recovery.h"
#include "spool/segment_reader.h"
#include "spool/segment_table.h"
#include "spool/segment_writer.h"
#include "spool/spool.h"

namespace run_recorder {

class DiskSpool final : public Spool {
 public:
  DiskSpool(const SpoolOptions& options, FolderLock lock, Recovered recovered);
  ~DiskSpool() override;
  DiskSpool(const DiskSpool&) = delete;
  DiskSpool& operator=(const DiskSpool&) = delete;

  std::string id() const override;
  const std::string& origin() const override { return origin_; }
  std::vector<Incarnation> incarnations() const override;
  std::vector<Incarnation> remembered() const override;
  bool may_be_copy() const override;
  void settle() override;
  std::string renew() override;
  std::uint64_t shared_before() const override;
  Result<Appended> append(std::span<const Entry> entries) override;
  Result<std::vector<SpoolRecord>> read(std::uint64_t seq, std::size_t max_records, std::size_t max_bytes,
                                        std::vector<std::string>& damage) override;
  void release(std::uint64_t seq) override;
  void delete_expired(Timestamp now) override;
  std::string hint() const override;
  void set_hint(std::string_view text) override;
  FilesCheck check_files() override;
  SpoolUsage usage() const override;
  SpoolRoom room() const override;
  void set_limits(std::uint64_t max_bytes, std::uint64_t min_free, std::chrono::milliseconds keep) override;

 private:
  struct SpoolLimits {
    std::uint64_t max_bytes;
    std::uint64_t min_free;
    std::chrono::milliseconds keep;
    std::uint64_t segment_bytes;
  };
  // What was refused for want of room, until there is: the least that it needs. 0: nothing was.
  struct Wanted {
    std::uint64_t other = 0;       // of max_bytes, by records that are not privileged
    std::uint64_t privileged = 0;  // of max_bytes, by those that are
    std::uint64_t disk = 0;        // of the file system, by either
  };
  // A write that the file system refused although it seemed to have room: by a quota, or without a min_free.
  struct DiskRefusal {
    std::string error;             // empty: the last one was not refused
    std::uint64_t free_bytes = 0;  // it had then
  };
  // The position of read(): one open segment, and whether its last record was not handed out yet.
  struct Cursor {
    std::uint64_t first_seq = 0;
    std::unique_ptr<SegmentReader> reader;
    bool held = false;
  };
  struct RecordBatch;  // what one read() has collected

  // Appending.
  void admit(std::span<const Entry> entries, Appended& appended, std::vector<std::string_view>& bodies,
             std::uint64_t& zeros_ahead) REQUIRES(append_mutex_);
  void note_refusal(const Entry& entry, std::uint64_t with_it, std::uint64_t pending, std::uint64_t room)
      REQUIRES(state_mutex_);
  void forget_refusals(std::uint64_t pending, std::uint64_t room) REQUIRES(state_mutex_);
  bool has_room_for(std::uint64_t wanted, std::uint64_t limit) const REQUIRES(state_mutex_);
  std::uint64_t disk_room(std::uint64_t wanted) REQUIRES(append_mutex_);
  Result<void> ensure_segment() REQUIRES(append_mutex_);
  Result<void> begin_segment() REQUIRES(append_mutex_);
  void mark_synced(std::uint64_t seq, bool durable) REQUIRES(append_mutex_);
  Result<void> verify_files() REQUIRES(append_mutex_);
  void remember_opening(std::uint64_t first_seq);
  std::string failure() const;  // empty: none
  void note_failure(const Error& error);
  void delete_segment(const Segment& segment) const;

  // Reading.
  std::optional<Segment> segment_for(std::uint64_t seq) const;
  Result<UniqueFd> open_segment(const std::string& name);
  Result<void> move_cursor(const Segment& segment, std::uint64_t seq) REQUIRES(read_mutex_);
  Result<bool> read_segment(const Segment& segment, RecordBatch& batch) REQUIRES(read_mutex_);
  void report_damage(const DamagedRange& range, RecordBatch& batch) REQUIRES(read_mutex_);
  void report_missing(const Segment& segment, RecordBatch& batch) REQUIRES(read_mutex_);
  void report_surplus(const Segment& segment, RecordBatch& batch) REQUIRES(read_mutex_);

  const SpoolOptions options_;
  const spool_folder::Place place_;  // where the folder lies now
  const std::string origin_;
  const spool_format::Id incarnation_;

  mutable Mutex identity_mutex_;
  spool_folder::Identity identity_ GUARDED_BY(identity_mutex_);

  Mutex append_mutex_;  // held over the writing and syncing of a group; before state_mutex_
  FolderLock lock_ GUARDED_BY(append_mutex_);
  const int folder_;  // of lock_
  std::unique_ptr<SegmentWriter> writer_ GUARDED_BY(append_mutex_);
  std::string writer_name_ GUARDED_BY(append_mutex_);  // of its file
  std::string repaired_ GUARDED_BY(append_mutex_);     // not reported yet
  UniqueFd synced_file_ GUARDED_BY(append_mutex_);

  Mutex read_mutex_;  // before state_mutex_ and append_mutex_
  Cursor cursor_ GUARDED_BY(read_mutex_);
  ReportedDamage reported_ GUARDED_BY(read_mutex_);

  mutable Mutex state_mutex_;
  SegmentTable table_ GUARDED_BY(state_mutex_);
  std::uint64_t next_seq_ GUARDED_BY(state_mutex_);
  SpoolLimits limits_ GUARDED_BY(state_mutex_);
  Wanted wanted_ GUARDED_BY(state_mutex_);
  DiskRefusal disk_refusal_ GUARDED_BY(state_mutex_);
  std::uint64_t giving_way_bytes_ GUARDED_BY(state_mutex_) = 0;  // of a segment that disk_room() deletes now
  bool failed_ GUARDED_BY(state_mutex_) = false;
  std::string failure_ GUARDED_BY(state_mutex_);

  mutable Mutex hint_mutex_;
  spool_format::Hint hint_ GUARDED_BY(hint_mutex_);
  bool hint_written_ GUARDED_BY(hint_mutex_) = false;  // by this process, as it is now
  UniqueFd hint_file_ GUARDED_BY(hint_mutex_);
};

}  // namespace run_recorder
