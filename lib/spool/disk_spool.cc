#include "spool/disk_spool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>

#include "spool/file_system.h"
#include "spool/folder.h"

namespace run_recorder {
namespace {

using namespace spool_format;

constexpr std::uint64_t kMinSegmentBytes = std::uint64_t{64} * 1024;
constexpr std::uint64_t kSegmentsAtLeast = 16;  // within max_bytes, so that little is kept longer than it must
// The more, the fewer groups wait for the allocation of blocks, and the longer each.
constexpr std::uint64_t kZerosAheadBytes = std::uint64_t{2} * 1024 * 1024;

std::uint64_t segment_bytes_for(std::uint64_t wanted, std::uint64_t max_bytes) {
  return std::max(std::min(wanted, max_bytes / kSegmentsAtLeast), kMinSegmentBytes);
}

// Of max_bytes; the rest is for privileged records.
std::uint64_t allowed_of(std::uint64_t max_bytes) {
  return max_bytes - max_bytes / 10;
}

// What one record takes that is appended alone.
std::uint64_t bytes_alone(std::size_t body_bytes) {
  return kGroupHeaderBytes + kRecordHeaderBytes + body_bytes;
}

// The lesser of the two, where 0 stands for none.
void keep_least(std::uint64_t& least, std::uint64_t another) {
  least = least == 0 ? another : std::min(least, another);
}

Error as_append_error(const Error& error) {
  return error.kind == ErrorKind::kFull ? error : Error{ErrorKind::kIo, error.message};
}

}  // namespace

DiskSpool::DiskSpool(const SpoolOptions& options, FolderLock lock, Recovered recovered)
    : options_(options),
      place_(spool_folder::place_of(options.path, options.machine)),
      origin_(to_hex(recovered.identity.origin)),
      incarnation_(random_id()),
      identity_(std::move(recovered.identity)),
      lock_(std::move(lock)),
      folder_(lock_.folder()),
      reported_(std::move(recovered.reported)),
      next_seq_(recovered.next_seq),
      limits_{options.max_bytes, options.min_free, options.keep,
              segment_bytes_for(options.segment_bytes, options.max_bytes)} {
  for (const Segment& segment : recovered.segments) table_.push(segment);
  table_.set_last_seq(recovered.last_seq);
  Result<UniqueFd> synced = open_file(options_.path / spool_folder::kSynced, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (synced) synced_file_ = std::move(*synced);
  hint_ = spool_folder::read_hint(options_.path);
  Result<UniqueFd> hint = open_file(options_.path / spool_folder::kHint, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (hint) hint_file_ = std::move(*hint);
  const MutexLock append_lock(append_mutex_);
  mark_synced(next_seq_ - 1, false);
  // Best effort, so that the first event need not wait for it; a full disk must not keep the daemon from starting.
  static_cast<void>(begin_segment());
  remember_opening(next_seq_);
}

DiskSpool::~DiskSpool() {
  if (writer_) writer_->trim();
  const MutexLock state_lock(state_mutex_);
  if (!failed_) mark_synced(table_.last_seq(), true);
}

std::vector<Incarnation> DiskSpool::incarnations() const {
  const MutexLock state_lock(state_mutex_);
  std::vector<Incarnation> found = table_.incarnations();
  std::string current = to_hex(incarnation_);
  if (found.empty() || found.back().id != current) found.push_back({std::move(current), next_seq_});
  return found;
}

std::vector<Incarnation> DiskSpool::remembered() const {
  const MutexLock identity_lock(identity_mutex_);
  return identity_.openings;
}

std::string DiskSpool::id() const {
  const MutexLock identity_lock(identity_mutex_);
  return to_hex(identity_.recorder);
}

bool DiskSpool::may_be_copy() const {
  const MutexLock identity_lock(identity_mutex_);
  return identity_.place != place_;
}

// Best effort as all writing of the identity but its making, so that a full disk keeps nobody from starting: where it
// fails, the next opening asks the database again.
void DiskSpool::settle() {
  const MutexLock identity_lock(identity_mutex_);
  if (identity_.place == place_) return;
  identity_.place = place_;
  static_cast<void>(spool_folder::write_identity(options_.path, identity_));
}

std::string DiskSpool::renew() {
  const MutexLock identity_lock(identity_mutex_);
  identity_.recorder = random_id();
  assert(!identity_.openings.empty());
  identity_.shared_before = identity_.openings.back().first_seq;
  identity_.place = place_;
  static_cast<void>(spool_folder::write_identity(options_.path, identity_));
  return to_hex(identity_.recorder);
}

std::uint64_t DiskSpool::shared_before() const {
  const MutexLock identity_lock(identity_mutex_);
  return identity_.shared_before;
}

// Before the database has the incarnation, so that the next opening recognises it as its own. Openings that wrote
// nothing are dropped first.
void DiskSpool::remember_opening(std::uint64_t first_seq) {
  const MutexLock identity_lock(identity_mutex_);
  std::vector<Incarnation>& openings = identity_.openings;
  openings.push_back({to_hex(incarnation_), first_seq});
  if (openings.size() > spool_folder::kMostRemembered) {
    const auto idle = std::adjacent_find(openings.begin(), openings.end() - 1, [](const auto& one, const auto& next) {
      return one.first_seq == next.first_seq;
    });
    openings.erase(idle == openings.end() - 1 ? openings.begin() : idle);
  }
  // A new spool, or one of an earlier release.
  if (!identity_.place) identity_.place = place_;
  static_cast<void>(spool_folder::write_identity(options_.path, identity_));
}

Result<Spool::Appended> DiskSpool::append(std::span<const Entry> entries) {
  const MutexLock append_lock(append_mutex_);
  Appended appended;
  std::vector<std::string_view> bodies;
  std::uint64_t zeros_ahead = 0;
  {
    const MutexLock state_lock(state_mutex_);
    if (failed_) return Error{ErrorKind::kIo, failure_};
    appended.first_seq = next_seq_;
  }
  admit(entries, appended, bodies, zeros_ahead);
  assert(appended.admissions.size() == entries.size());
  if (bodies.empty()) return appended;
  Result<void> done = ensure_segment();
  const std::uint64_t end = writer_ ? writer_->end() : 0;
  if (done) done = writer_->append(appended.first_seq, bodies, zeros_ahead);
  if (writer_ && writer_->failed()) note_failure(done.error());
  if (done) {
    done = verify_files();
    if (!done) writer_->retract(end);
  }
  if (!done && done.error().kind == ErrorKind::kFull) {
    const std::uint64_t free = free_bytes_under(folder_).value_or(0);
    const MutexLock state_lock(state_mutex_);
    disk_refusal_ = {done.error().message, free};
    std::fill(appended.admissions.begin(), appended.admissions.end(), Admission::kFull);
    return appended;
  }
  if (!done) return as_append_error(done.error());
  const std::uint64_t last_seq = appended.first_seq + bodies.size() - 1;
  mark_synced(last_seq, false);
  const MutexLock state_lock(state_mutex_);
  assert(next_seq_ == appended.first_seq);
  next_seq_ = last_seq + 1;
  table_.grow(writer_->end(), last_seq);
  disk_refusal_ = {};
  return appended;
}

void DiskSpool::admit(std::span<const Entry> entries, Appended& appended, std::vector<std::string_view>& bodies,
                      std::uint64_t& zeros_ahead) {
  std::uint64_t wanted = kGroupHeaderBytes;
  for (const Entry& entry : entries) wanted += kRecordHeaderBytes + entry.body.size();
  const std::uint64_t room = disk_room(wanted);
  std::vector<Segment> evicted;
  {
    const MutexLock state_lock(state_mutex_);
    const std::uint64_t pending = table_.pending_bytes();
    forget_refusals(pending, room);
    std::uint64_t used = kGroupHeaderBytes;
    for (const Entry& entry : entries) {
      const std::uint64_t limit = entry.privileged ? limits_.max_bytes : allowed_of(limits_.max_bytes);
      const std::uint64_t with_it = used + kRecordHeaderBytes + entry.body.size();
      const bool fits = pending + with_it <= limit && with_it <= room && entry.body.size() <= kMaxRecordBytes;
      appended.admissions.push_back(fits ? Admission::kAccepted : Admission::kFull);
      if (!fits) {
        note_refusal(entry, with_it, pending, room);
        continue;
      }
      used = with_it;
      bodies.push_back(entry.body);
    }
    while (table_.total_bytes() + used > limits_.max_bytes) {
      const std::optional<Segment> segment = table_.take_released();
      if (!segment) break;
      evicted.push_back(*segment);
    }
    const std::uint64_t ahead = std::min({kZerosAheadBytes, limits_.segment_bytes / 4, room / 8});
    zeros_ahead = room / 4 > used + ahead ? ahead : 0;
  }
  for (const Segment& segment : evicted) delete_segment(segment);
}

// Not of a record that would not even fit into an empty spool: there is never room for that one.
void DiskSpool::note_refusal(const Entry& entry, std::uint64_t with_it, std::uint64_t pending, std::uint64_t room) {
  const std::uint64_t alone = bytes_alone(entry.body.size());
  const std::uint64_t limit = entry.privileged ? limits_.max_bytes : allowed_of(limits_.max_bytes);
  if (alone > limit || entry.body.size() > kMaxRecordBytes) return;
  if (pending + with_it > limit) keep_least(entry.privileged ? wanted_.privileged : wanted_.other, alone);
  if (with_it > room) keep_least(wanted_.disk, alone);
}

void DiskSpool::forget_refusals(std::uint64_t pending, std::uint64_t room) {
  if (pending + wanted_.other <= allowed_of(limits_.max_bytes)) wanted_.other = 0;
  if (pending + wanted_.privileged <= limits_.max_bytes) wanted_.privileged = 0;
  if (wanted_.disk <= room) wanted_.disk = 0;
}

// Bytes the file system has left above min_free. Deletes kept segments where that is less than wanted.
std::uint64_t DiskSpool::disk_room(std::uint64_t wanted) {
  while (true) {
    const std::optional<std::uint64_t> free = free_bytes_under(folder_);
    if (!free) return UINT64_MAX;  // not known: writing fails where it is full
    std::optional<Segment> segment;
    {
      const MutexLock state_lock(state_mutex_);
      const std::uint64_t room = *free > limits_.min_free ? *free - limits_.min_free : 0;
      if (room >= wanted) return room;
      segment = table_.take_released();
      if (!segment) return room;
      giving_way_bytes_ = segment->bytes();
    }
    delete_segment(*segment);
    const MutexLock state_lock(state_mutex_);
    giving_way_bytes_ = 0;
  }
}

Result<void> DiskSpool::ensure_segment() {
  std::uint64_t segment_bytes = 0;
  {
    const MutexLock state_lock(state_mutex_);
    segment_bytes = limits_.segment_bytes;
  }
  if (writer_ && writer_->end() < segment_bytes) return {};
  const Result<void> begun = begin_segment();
  // Where no new one can be made (no descriptor, inode or room left), the old one goes on growing.
  if (!begun && writer_) return {};
  return begun;
}

Result<void> DiskSpool::begin_segment() {
  if (Result<void> ours = verify_files(); !ours) return ours;  // not into another folder of this path
  Segment segment;
  {
    const MutexLock state_lock(state_mutex_);
    segment.first_seq = next_seq_;
  }
  segment.last_seq = segment.first_seq - 1;
  segment.incarnation = incarnation_;
  Result<std::unique_ptr<SegmentWriter>> made =
      SegmentWriter::create(options_.path, {kVersion, *id_from_hex(origin_), incarnation_, segment.first_seq},
                            options_.sync ? options_.sync : fdatasync);
  if (!made) return made.error();
  if (writer_) writer_->trim();
  writer_ = std::move(*made);
  writer_name_ = segment_name(segment.first_seq);
  const MutexLock state_lock(state_mutex_);
  table_.push(segment);
  return {};
}

// Not synced after each group: it is a lower bound, and in the page cache it survives the death of this process.
void DiskSpool::mark_synced(std::uint64_t seq, bool durable) {
  if (!synced_file_) return;
  const std::string bytes = encode_mark({*id_from_hex(origin_), seq});
  const bool written =
      pwrite(synced_file_.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
  if (written && durable) static_cast<void>(fdatasync(synced_file_.get()));
}

// What was written into files that the path does not name is not accepted: the next opening would not find it.
Result<void> DiskSpool::verify_files() {
  FolderLock::Finding found = lock_.check(writer_name_, writer_ ? writer_->fd() : -1);
  if (!found.repaired.empty()) repaired_ = std::move(found.repaired);
  if (found.lost.empty()) return {};
  const Error error{ErrorKind::kIo, std::move(found.lost)};
  note_failure(error);
  return Error{ErrorKind::kIo, failure()};
}

FilesCheck DiskSpool::check_files() {
  // append() checks by itself, and may wait long for the disk.
  FilesCheck check;
  if (!append_mutex_.try_lock()) return check;
  const MutexLock append_lock(append_mutex_, std::adopt_lock);
  const bool failed_before = !failure().empty();
  if (!failed_before) static_cast<void>(verify_files());
  if (!failed_before) check.failed = failure();
  check.repaired = std::exchange(repaired_, {});
  return check;
}

std::string DiskSpool::failure() const {
  const MutexLock state_lock(state_mutex_);
  return failure_;
}

void DiskSpool::note_failure(const Error& error) {
  const MutexLock state_lock(state_mutex_);
  failed_ = true;
  failure_ = fmt::format("the spool {} accepts no events until it is opened again: {}", options_.path.string(),
                         error.message);
}

void DiskSpool::delete_segment(const Segment& segment) const {
  // One that stays because this fails is found by the next open(), and is released and deleted then.
  unlinkat(folder_, segment_name(segment.first_seq).c_str(), 0);
}

void DiskSpool::release(std::uint64_t seq) {
  const MutexLock state_lock(state_mutex_);
  table_.release(seq);
}

void DiskSpool::delete_expired(Timestamp now) {
  while (true) {
    std::optional<Segment> segment;
    {
      const MutexLock state_lock(state_mutex_);
      segment = table_.take_expired(now, limits_.keep, limits_.max_bytes);
    }
    if (!segment) break;
    delete_segment(*segment);
  }
  // The newest may go too when another one has begun, whose name then keeps the number. Not while it is written to.
  if (!append_mutex_.try_lock()) return;
  const MutexLock append_lock(append_mutex_, std::adopt_lock);
  {
    const MutexLock state_lock(state_mutex_);
    if (failed_ || !table_.last_is_expired(now, limits_.keep)) return;
  }
  if (!begin_segment()) return;
  std::optional<Segment> segment;
  {
    const MutexLock state_lock(state_mutex_);
    segment = table_.take_released();
  }
  if (segment) delete_segment(*segment);
}

std::string DiskSpool::hint() const {
  const MutexLock hint_lock(hint_mutex_);
  return hint_.text;
}

void DiskSpool::set_hint(std::string_view text) {
  const MutexLock hint_lock(hint_mutex_);
  if (hint_written_ && hint_.text == text) return;  // an idle daemon leaves the disk alone
  ++hint_.generation;
  hint_.text = text;
  hint_written_ = hint_file_ && spool_folder::write_hint(hint_file_.get(), hint_);
}

SpoolUsage DiskSpool::usage() const {
  const MutexLock state_lock(state_mutex_);
  SpoolUsage usage;
  usage.last_seq = table_.last_seq();
  usage.released_seq = table_.released();
  const std::optional<Segment> first = table_.find(0);
  usage.first_seq = first ? first->first_seq : usage.last_seq + 1;
  usage.pending_bytes = table_.pending_bytes();
  usage.kept_bytes = table_.kept_bytes();
  usage.segments = table_.segments().size();
  usage.failed = failed_;
  usage.failure = failure_;
  return usage;
}

bool DiskSpool::has_room_for(std::uint64_t wanted, std::uint64_t limit) const {
  return table_.pending_bytes() + std::max(wanted, bytes_alone(1)) <= limit;
}

SpoolRoom DiskSpool::room() const {
  SpoolRoom room;
  room.path = options_.path;
  room.free_bytes = free_bytes_under(folder_);
  const MutexLock state_lock(state_mutex_);
  room.pending_bytes = table_.pending_bytes();
  room.releasable_bytes = table_.releasable_bytes();
  room.max_bytes = limits_.max_bytes;
  room.allowed_bytes = allowed_of(limits_.max_bytes);
  room.min_free = limits_.min_free;
  room.has_privileged_room = has_room_for(wanted_.privileged, room.max_bytes);
  room.has_room = room.has_privileged_room && has_room_for(wanted_.other, room.allowed_bytes);
  if (room.free_bytes) {
    const std::uint64_t needed = limits_.min_free + std::max(wanted_.disk, bytes_alone(1));
    room.disk_has_room = *room.free_bytes + giving_way_bytes_ + room.releasable_bytes >= needed;
  }
  // Not where there is more than then: an append has to find out.
  if (!room.free_bytes || *room.free_bytes <= disk_refusal_.free_bytes) room.disk_error = disk_refusal_.error;
  room.failure = failure_;
  return room;
}

void DiskSpool::set_limits(std::uint64_t max_bytes, std::uint64_t min_free, std::chrono::milliseconds keep) {
  const MutexLock state_lock(state_mutex_);
  limits_ = {max_bytes, min_free, keep, segment_bytes_for(options_.segment_bytes, max_bytes)};
}

Result<std::unique_ptr<Spool>> Spool::open(const SpoolOptions& options, SpoolOpening& opening) {
  const auto as_open_error = [](const Error& error) {
    const bool keep =
        error.kind == ErrorKind::kConflict || error.kind == ErrorKind::kDenied || error.kind == ErrorKind::kInvalid;
    return Error{keep ? error.kind : ErrorKind::kIo, error.message};
  };
  opening = {};
  const Result<void> made = make_directories(options.path, 0700);
  if (!made) return as_open_error(made.error());
  const Result<void> usable = spool_folder::refuse_foreign(options.path);  // before anything is written into it
  if (!usable) return as_open_error(usable.error());
  Result<FolderLock> lock = FolderLock::acquire(options.path);
  if (!lock) return as_open_error(lock.error());
  // Also where the folder was there: it may have been made by a daemon that died before this.
  const Result<void> named = sync_name_of(options.path);
  if (!named) return as_open_error(named.error());
  Result<Recovered> recovered = recover_spool(options.path, opening);
  if (!recovered) return as_open_error(recovered.error());
  const spool_folder::Place here = spool_folder::place_of(options.path, options.machine);
  const bool elsewhere =
      recovered->identity.place && spool_folder::is_other_machine(*recovered->identity.place, here);
  if (elsewhere) opening.other_machines = to_hex(recovered->identity.recorder);
  auto spool = std::make_unique<DiskSpool>(options, std::move(*lock), std::move(*recovered));
  if (elsewhere) spool->renew();
  return std::unique_ptr<Spool>(std::move(spool));
}

Result<std::string> adopt_spool(const std::filesystem::path& folder) {
  const Result<FolderLock> lock = FolderLock::acquire(folder);
  if (!lock) return lock.error();
  Result<std::optional<spool_folder::Identity>> identity = spool_folder::read_identity(folder);
  if (!identity) return identity.error();
  if (!*identity) return Error{ErrorKind::kNotFound, folder.string() + " is not a spool: it has no identity"};
  // Neither this boot nor this folder: the next opening still asks whether the other one is alive.
  (*identity)->place = spool_folder::Place{spool_folder::place_of(folder).machine, "-", "-"};
  const Result<void> written = spool_folder::write_identity(folder, **identity);
  if (!written) return written.error();
  return to_hex((*identity)->recorder);
}

}  // namespace run_recorder
