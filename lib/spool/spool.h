// The spool: every accepted event, durable on disk before it is acknowledged, until it is applied and `keep` has
// passed. It stores byte strings and knows no events. The files are described in FORMAT.md.
//
// Threads: append() from one thread at a time (the writer), all else from any; all are safe together.
// One process per folder, held by a lock.
//
// Position. Each record has a sequence number, from 1, contiguous over the spool's whole life. Each open() begins a
// new incarnation (a random id), written into every segment it begins; a database keeps the applied position per
// incarnation, so that a folder restored from an older copy never makes new records look already applied.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace run_recorder {

struct SpoolOptions {
  std::filesystem::path path;
  std::uint64_t max_bytes = 1ULL << 30;   // of records not yet applied; the last tenth only for privileged records
  std::uint64_t min_free = 256ULL << 20;  // of the file system
  std::chrono::milliseconds keep{3'600'000};  // applied records are kept this long, or until room is needed
  std::uint64_t segment_bytes = 16ULL << 20;  // at most; 64 KiB or a sixteenth of max_bytes where that is less
  std::string machine;                        // instead of this machine's id: a test's way to be another one
  int (*sync)(int fd) = nullptr;              // instead of fdatasync(2): a test's way to make it fail
};

// The records written by one open() of the spool. No other open(), not even of a copy, writes the same id.
struct Incarnation {
  std::string id;  // 32 hex digits
  std::uint64_t first_seq = 1;
};

struct SpoolRecord {
  std::uint64_t seq = 0;
  std::string body;
};

// What open() found and did; all of it belongs into the log.
struct SpoolOpening {
  bool created = false;
  std::uint64_t torn_bytes = 0;        // cut from the tail: never acknowledged; kept beside as a .torn file
  std::vector<std::string> set_aside;  // one sentence per file that was damaged, foreign or empty, with its new name
  std::uint64_t damaged_records = 0;  // acknowledged numbers that are not here; a database may have them all the same
  std::string other_machines;         // the recorder's id that was given up: this is another machine's spool
};

// What check_files() found since the last call; at most one is not empty.
struct FilesCheck {
  std::string repaired;  // something was missing and is back
  std::string failed;    // they are not the path's any more: the failure, as usage() has it from now on
};

struct SpoolUsage {
  std::uint64_t first_seq = 0;      // the oldest record still on disk; last_seq + 1 where there is none
  std::uint64_t last_seq = 0;       // the newest durable record; 0: none yet
  std::uint64_t released_seq = 0;   // everything up to here is applied, as of the last release()
  std::uint64_t pending_bytes = 0;  // not yet released
  std::uint64_t kept_bytes = 0;     // released, still kept
  std::uint64_t segments = 0;
  bool failed = false;  // a sync failed, or the files are gone: nothing is accepted any more until the next open()
  std::string failure;
};

// What there is room for, as far as it shows before anything is appended.
struct SpoolRoom {
  std::filesystem::path path;
  std::uint64_t pending_bytes = 0;          // not yet released
  std::uint64_t releasable_bytes = 0;       // released, of segments that give way where room is needed
  std::uint64_t max_bytes = 0;              // so many may be
  std::uint64_t allowed_bytes = 0;          // so many before only privileged records are accepted
  std::uint64_t min_free = 0;               // of the file system
  std::optional<std::uint64_t> free_bytes;  // empty: the system does not say
  // What an append would find now. A record that was refused for want of room counts as waiting for that much until
  // it is there; a spool that has a little room, but not for that one, is full.
  bool has_room = true;
  bool has_privileged_room = true;
  bool disk_has_room = true;  // above min_free, or kept segments would give way
  std::string disk_error;     // the file system refused the last write all the same: what the system said
  std::string failure;        // nothing is accepted until the next open(), as in SpoolUsage
};

class Spool {
 public:
  // Creates the folder (0700) where it is missing, locks it, finds the tail. On another machine than before it takes
  // a new id(). Errors: kConflict (another process holds it), kDenied, kIo, kInvalid (not a spool, or of a newer
  // format version: the message names both versions).
  static Result<std::unique_ptr<Spool>> open(const SpoolOptions& options, SpoolOpening& opening);
  virtual ~Spool() = default;

  // The recorder's id: made with the spool, survives restarts; another one after renew(). 32 hex digits.
  virtual std::string id() const = 0;
  // The id the spool was made with, which its copies have too. Positions are kept under it, so that records which a
  // spool and its copy both have are applied by one of them.
  virtual const std::string& origin() const = 0;
  // All incarnations that still have records on disk, oldest first; the last is the current one.
  virtual std::vector<Incarnation> incarnations() const = 0;
  // The last ones of this folder (some dozens), with records on disk or not, oldest first, the current one included;
  // each with the number it began with.
  virtual std::vector<Incarnation> remembered() const = 0;

  // It lies elsewhere than when it was settled last (another boot, device or inode): it may be a copy, and the other
  // one alive. Whoever records under id() asks the database first, then settles or renews.
  virtual bool may_be_copy() const = 0;
  virtual void settle() = 0;
  // Another process records under id(): takes a new one, which is returned, and settles. Records not applied yet
  // stay.
  virtual std::string renew() = 0;
  // Records of incarnations that began below this number are the other process's too; 0: there is none.
  virtual std::uint64_t shared_before() const = 0;

  struct Entry {
    std::string_view body;
    bool privileged = false;  // may use the last tenth of max_bytes
  };
  enum class Admission { kAccepted, kFull };
  struct Appended {
    std::uint64_t first_seq = 0;        // of the accepted ones; they are numbered in order
    std::vector<Admission> admissions;  // one per entry
  };
  // Writes the entries there is room for and syncs once. When it returns a value, the accepted ones are durable. kIo:
  // none of them is accepted, and after a failed sync nothing ever is again in this process. A full disk is kFull for
  // all.
  virtual Result<Appended> append(std::span<const Entry> entries) = 0;

  // Records from seq on, at most max_records and (beyond the first) max_bytes; empty at the end. Damage met on the
  // way is set aside and reported through `damage` as a sentence each; reading goes on behind it (sequence numbers
  // then jump). An error of the system comes only where no record lies before it; the next call tries again.
  virtual Result<std::vector<SpoolRecord>> read(std::uint64_t seq, std::size_t max_records, std::size_t max_bytes,
                                                std::vector<std::string>& damage) = 0;

  // Everything up to seq is applied: it no longer counts against max_bytes, and is deleted once `keep` has passed.
  // Going back (a database lost commits) is allowed down to usage().first_seq - 1.
  virtual void release(std::uint64_t seq) = 0;
  // Deletes segments whose records were all released more than `keep` ago, or where room is needed. Cheap; call
  // often.
  virtual void delete_expired(Timestamp now) = 0;

  // A small text (64 KiB less 16 bytes; a longer one is not written) beside the segments, replaced as a whole, not
  // synced: the last known ledger and position.
  virtual std::string hint() const = 0;
  virtual void set_hint(std::string_view text) = 0;

  // Whether folder, lock and the segment being written are still what the path names; append() checks too, before it
  // accepts. Where they are not, nothing is accepted any more. Cheap; at least once a second while nothing is
  // appended.
  virtual FilesCheck check_files() = 0;

  virtual SpoolUsage usage() const = 0;
  // One system call.
  virtual SpoolRoom room() const = 0;
  virtual void set_limits(std::uint64_t max_bytes, std::uint64_t min_free, std::chrono::milliseconds keep) = 0;
};

// For a spool that was moved to another machine on purpose: the next open() keeps its id where no other process
// records under it. Needs the folder's lock. The id. Errors as open(), and kNotFound where there is no spool.
Result<std::string> adopt_spool(const std::filesystem::path& folder);

}  // namespace run_recorder
