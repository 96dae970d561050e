#include "spool/folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <system_error>

namespace run_recorder::spool_folder {
namespace {

namespace fs = std::filesystem;
using spool_format::Id;

constexpr std::string_view kIdentityMagic = "run-recorder spool";
constexpr std::size_t kMaxIdentityBytes = 4096;
constexpr std::size_t kCopyBytes = 256 * 1024;

// What a crash may leave of this program's own writing, and what a file system puts into its root.
bool is_harmless(std::string_view name) {
  return name.ends_with(".torn") || name.ends_with(".tmp") || name == kNewSegment || name == "lost+found";
}

bool is_ours(std::string_view name) {
  return name == kLock || name == kSynced || name == kHint || name == kSetAside || is_harmless(name);
}

// "KEY VALUE" in one of the text's lines.
std::optional<std::string_view> value_of(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ')
      return line.substr(key.size() + 1);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return std::nullopt;
}

std::optional<int> parse_pid(std::string_view text) {
  int pid = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), pid).ec != std::errc{} || pid <= 0) return std::nullopt;
  return pid;
}

Result<void> copy_bytes(int from_fd, std::uint64_t from, std::uint64_t to, int to_fd) {
  std::string buffer(kCopyBytes, '\0');
  while (from < to) {
    const std::size_t size = std::min<std::uint64_t>(buffer.size(), to - from);
    const Result<std::size_t> got = read_at(from_fd, buffer.data(), size, static_cast<off_t>(from));
    if (!got) return got.error();
    if (*got == 0) break;
    Result<void> written = write_all(to_fd, std::string_view(buffer).substr(0, *got));
    if (!written) return written;
    from += *got;
  }
  if (fsync(to_fd) != 0) return system_error_of("fsync of a copy of damaged bytes");
  return {};
}

}  // namespace

Result<Listing> list(const fs::path& folder) {
  std::error_code error;
  Listing listing;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (const auto seq = spool_format::parse_segment_name(name)) {
      listing.segments.push_back(*seq);
    } else if (name == kIdentity) {
      listing.has_identity = true;
    } else if (!is_ours(name)) {
      listing.unknown.push_back(name);
    }
  }
  if (error) return system_error_of("read the folder " + folder.string(), error.value());
  std::sort(listing.segments.begin(), listing.segments.end());
  std::sort(listing.unknown.begin(), listing.unknown.end());
  return listing;
}

Result<void> refuse_foreign(const fs::path& folder) {
  const Result<Listing> listing = list(folder);
  if (!listing) return listing.error();
  if (listing->has_identity || !listing->segments.empty() || listing->unknown.empty()) return {};
  return Error{ErrorKind::kInvalid,
               fmt::format("{} is not a spool: it holds {} but no {}; name an empty or a new folder", folder.string(),
                           listing->unknown.front(), kIdentity)};
}

Result<UniqueFd> lock(const fs::path& folder) {
  const fs::path path = folder / kLock;
  Result<UniqueFd> file = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (!file) return file;
  if (flock(file->get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return system_error_of("lock " + path.string());
    const std::optional<int> pid = holder(folder);
    return Error{ErrorKind::kConflict, fmt::format("the spool {} is held by another process{}", folder.string(),
                                                   pid ? fmt::format(" ({})", *pid) : std::string())};
  }
  // Who holds it, for people and for the message above; the lock itself is the kernel's.
  const std::string pid = fmt::format("{}\n", getpid());
  if (ftruncate(file->get(), 0) != 0 || pwrite(file->get(), pid.data(), pid.size(), 0) < 0) {
    // A full disk must not keep the spool from being opened.
  }
  return file;
}

std::optional<int> holder(const fs::path& folder) {
  const fs::path path = folder / kLock;
  const Result<UniqueFd> file = open_file(path, O_RDONLY | O_NOFOLLOW);
  if (!file) return std::nullopt;
  if (flock(file->get(), LOCK_SH | LOCK_NB) == 0) return std::nullopt;
  const Result<std::string> text = read_file(path, 64);
  return text ? parse_pid(*text) : std::nullopt;
}

std::string newer_version_words(std::uint32_t version) {
  return fmt::format("has format version {}, this program reads up to {}", version, spool_format::kVersion);
}

Result<std::optional<Id>> read_identity(const fs::path& folder) {
  const fs::path path = folder / kIdentity;
  const Result<std::string> text = read_file(path, kMaxIdentityBytes);
  if (!text && text.error().kind == ErrorKind::kNotFound) return std::optional<Id>();
  if (!text) return text.error();
  const Error corrupt{ErrorKind::kCorrupt, path.string() + " is damaged"};
  if (!text->starts_with(kIdentityMagic)) return corrupt;
  const std::optional<std::string_view> version_text = value_of(*text, "version");
  const std::optional<std::string_view> recorder_text = value_of(*text, "recorder");
  std::uint32_t version = 0;
  if (!version_text ||
      std::from_chars(version_text->data(), version_text->data() + version_text->size(), version).ec != std::errc{}) {
    return corrupt;
  }
  if (version > spool_format::kVersion) {
    return Error{ErrorKind::kInvalid, fmt::format("the spool {} {}", folder.string(), newer_version_words(version))};
  }
  const std::optional<Id> recorder = recorder_text ? spool_format::id_from_hex(*recorder_text) : std::nullopt;
  if (!recorder) return corrupt;
  return std::optional<Id>(*recorder);
}

Result<void> write_identity(const fs::path& folder, const Id& recorder) {
  return replace_file_atomically(folder / kIdentity,
                                 fmt::format("{}\nversion {}\nrecorder {}\n", kIdentityMagic, spool_format::kVersion,
                                             spool_format::to_hex(recorder)));
}

std::optional<spool_format::Mark> read_mark(const fs::path& folder) {
  const Result<std::string> bytes = read_file(folder / kSynced, 4096);
  return bytes ? spool_format::parse_mark(*bytes) : std::nullopt;
}

spool_format::Hint read_hint(const fs::path& folder) {
  const Result<std::string> bytes = read_file(folder / kHint, 4 * spool_format::kHintSlotBytes);
  if (!bytes) return {};
  std::optional<spool_format::Hint> newest = spool_format::parse_hint(*bytes);
  if (bytes->size() > spool_format::kHintSlotBytes) {
    std::optional<spool_format::Hint> second =
        spool_format::parse_hint(std::string_view(*bytes).substr(spool_format::kHintSlotBytes));
    if (second && (!newest || second->generation > newest->generation)) newest = std::move(second);
  }
  return newest.value_or(spool_format::Hint());
}

bool write_hint(int fd, const spool_format::Hint& hint) {
  const std::optional<std::string> bytes = spool_format::encode_hint(hint);
  if (!bytes) return false;
  const std::uint64_t slot = hint.generation % 2 * spool_format::kHintSlotBytes;
  return pwrite(fd, bytes->data(), bytes->size(), static_cast<off_t>(slot)) == static_cast<ssize_t>(bytes->size());
}

Result<std::string> set_aside_file(const fs::path& folder, std::string_view name, std::string_view reason) {
  const Result<void> made = make_directories(folder / kSetAside, 0700);
  if (!made) return made.error();
  const std::string wanted = fmt::format("{}/{}.{}", kSetAside, name, reason);
  std::string target = wanted;
  std::error_code error;
  for (int number = 1; fs::exists(folder / target, error); ++number) target = fmt::format("{}.{}", wanted, number);
  fs::rename(folder / name, folder / target, error);
  if (error) return system_error_of("rename " + (folder / name).string(), error.value());
  const Result<void> synced = sync_directory(folder);
  if (!synced) return synced.error();
  return target;
}

Result<std::string> keep_bytes(const fs::path& folder, int fd, std::uint64_t from, std::uint64_t to,
                               const std::string& name) {
  const fs::path parent = (folder / name).parent_path();
  const Result<void> made = make_directories(parent, 0700);
  if (!made) return made.error();
  std::string target = name;
  std::error_code error;
  for (int number = 1; fs::exists(folder / target, error); ++number) {
    if (fs::file_size(folder / target, error) == to - from) return target;
    target = fmt::format("{}.{}", name, number);
  }
  const Result<UniqueFd> copy = open_file(folder / target, O_WRONLY | O_CREAT | O_EXCL);
  if (!copy) return copy.error();
  const Result<void> written = copy_bytes(fd, from, to, copy->get());
  if (!written) {
    unlink((folder / target).c_str());
    return written.error();
  }
  const Result<void> synced = sync_directory(parent);
  if (!synced) return synced.error();
  return target;
}

}  // namespace run_recorder::spool_folder
