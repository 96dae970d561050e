// The spool's folder: which files are in it, whose it is, who holds it, and where damaged bytes are put (FORMAT.md).
// Blocking system calls; no state, safe from any thread as far as the callers do not work on the same file.
// Errors: system_error_of()'s (base/file.h), and those named here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "spool/format.h"
#include "spool/spool.h"

namespace run_recorder::spool_folder {

inline constexpr std::string_view kLock = "lock";
inline constexpr std::string_view kIdentity = "identity";
inline constexpr std::string_view kSynced = "synced";
inline constexpr std::string_view kHint = "hint";
inline constexpr std::string_view kSetAside = "set-aside";
inline constexpr std::string_view kNewSegment = "segment.new";

struct Listing {
  std::vector<std::uint64_t> segments;  // first sequence numbers, as the names say, ascending
  std::vector<std::string> unknown;     // names that are none of the spool's
  bool has_identity = false;
};
// kNotFound where there is no folder.
Result<Listing> list(const std::filesystem::path& folder);

// kInvalid where the folder holds files but nothing of a spool.
Result<void> refuse_foreign(const std::filesystem::path& folder);

// The process that holds the folder now (folder_lock.h), as written in its lock file; empty where nobody does. Takes
// no lock.
std::optional<int> holder(const std::filesystem::path& folder);

// Where a spool is; "-" for what is not known.
struct Place {
  std::string machine;  // the first half of its machine id
  std::string boot;
  std::string folder;  // device and inode
  bool operator==(const Place&) const = default;
};
// machine: as in SpoolOptions.
Place place_of(const std::filesystem::path& folder, const std::string& machine = {});
// Both machines are known, and they differ.
bool is_other_machine(const Place& place, const Place& other);
// Another folder: a copy, made file by file. A copy of the whole file system has the same inodes, and is of one
// moment.
bool is_other_folder(const Place& place, const Place& other);

// The `identity` file.
inline constexpr std::size_t kMostRemembered = 48;
struct Identity {
  spool_format::Id origin{};          // as in the segments
  spool_format::Id recorder{};        // the same until it had to be another
  std::uint64_t shared_before = 0;    // see Spool; 0 while the two are the same
  std::optional<Place> place;         // where it was settled; a spool of an earlier release has none
  std::vector<Incarnation> openings;  // the last ones, oldest first
};
// Empty where the file is missing; kCorrupt where it cannot be understood, kInvalid where it is of a newer format.
Result<std::optional<Identity>> read_identity(const std::filesystem::path& folder);
Result<void> write_identity(const std::filesystem::path& folder, const Identity& identity);
// "has format version 2, this program reads up to 1".
std::string newer_version_words(std::uint32_t version);

// Whether a segment may begin with that number, where only its name says so and everything up to `acknowledged` is
// known: more records than this in between would not have fit into the one before it.
inline constexpr std::uint64_t kMostInOneSegment = 1U << 20;
inline bool is_plausible(std::uint64_t first_seq, std::uint64_t acknowledged) {
  return first_seq <= acknowledged + kMostInOneSegment;
}

std::optional<spool_format::Mark> read_mark(const std::filesystem::path& folder);

// The newer of the hint's slots that can be read; generation 0 and no text where neither can.
spool_format::Hint read_hint(const std::filesystem::path& folder);
// Into the other slot than the one before. Best effort, not synced. False: it is not there.
bool write_hint(int fd, const spool_format::Hint& hint);

// Moves a file into set-aside/ and says where to, as "set-aside/NAME.REASON"; an error where it stays.
Result<std::string> set_aside_file(const std::filesystem::path& folder, std::string_view name,
                                   std::string_view reason);
// Copies bytes [from, to) of a file to `name` in the folder, which is made durable. Where the same name is there with
// as many bytes, it is taken to be an earlier copy and left. The name that was used, with a number added where it was
// taken.
Result<std::string> keep_bytes(const std::filesystem::path& folder, int fd, std::uint64_t from, std::uint64_t to,
                               const std::string& name);

}  // namespace run_recorder::spool_folder
