#include "spool/folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <system_error>

#include "base/hex.h"

namespace run_recorder::spool_folder {
namespace {

namespace fs = std::filesystem;
using spool_format::Id;

constexpr std::string_view kIdentityMagic = "run-recorder spool";
constexpr std::size_t kMaxIdentityBytes = 4096;
constexpr std::size_t kShortIdDigits = 16;
constexpr std::string_view kUnknown = "-";
constexpr std::size_t kCopyBytes = std::size_t{256} * 1024;

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

// The next word of a line, which is taken off it; empty at its end.
std::string_view take_word(std::string_view& line) {
  const std::size_t end = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return word;
}

std::optional<Place> parse_place(std::string_view line) {
  Place place;
  for (std::string* part : {&place.machine, &place.boot, &place.folder}) *part = take_word(line);
  return place.folder.empty() ? std::nullopt : std::optional(std::move(place));
}

// "HEX:NUMBER HEX:NUMBER"; what is not one is left out.
std::vector<Incarnation> parse_openings(std::string_view line) {
  std::vector<Incarnation> openings;
  while (!line.empty()) {
    const std::string_view word = take_word(line);
    const std::size_t colon = std::min(word.find(':'), word.size());
    std::uint64_t first_seq = 0;
    std::from_chars(word.data() + std::min(colon + 1, word.size()), word.data() + word.size(), first_seq);
    if (!spool_format::id_from_hex(word.substr(0, colon)) || first_seq == 0) continue;
    openings.push_back({std::string(word.substr(0, colon)), first_seq});
  }
  return openings;
}

// The first digits of an id in a file of the system, without dashes. Not all of it: machine-id(5) is to be kept to
// the machine, and a spool may be copied away.
std::string short_id_in(const char* path) {
  const Result<std::string> text = read_file(path, 256);
  std::string digits;
  for (const char c : text ? *text : std::string()) {
    if (c != '-' && digits.size() < kShortIdDigits) digits += c;
  }
  const bool is_id = digits.size() == kShortIdDigits && digits.find_first_not_of(kHexDigits) == std::string::npos;
  return is_id ? digits : std::string(kUnknown);
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

std::optional<int> holder(const fs::path& folder) {
  const fs::path path = folder / kLock;
  const Result<UniqueFd> file = open_file(path, O_RDONLY | O_NOFOLLOW);
  if (!file) return std::nullopt;
  struct flock asked {};
  asked.l_type = F_RDLCK;
  asked.l_whence = SEEK_SET;
  if (fcntl(file->get(), F_OFD_GETLK, &asked) != 0 || asked.l_type == F_UNLCK) return std::nullopt;
  const Result<std::string> text = read_file(path, 64);
  return text ? parse_pid(*text) : std::nullopt;
}

Place place_of(const fs::path& folder, const std::string& machine) {
  Place place{machine, short_id_in("/proc/sys/kernel/random/boot_id"), std::string(kUnknown)};
  if (machine.empty()) place.machine = short_id_in("/etc/machine-id");
  struct stat status {};
  if (stat(folder.c_str(), &status) == 0) place.folder = fmt::format("{:x}:{:x}", status.st_dev, status.st_ino);
  return place;
}

bool is_other_machine(const Place& place, const Place& other) {
  return place.machine != kUnknown && other.machine != kUnknown && place.machine != other.machine;
}

std::string newer_version_words(std::uint32_t version) {
  return fmt::format("has format version {}, this program reads up to {}", version, spool_format::kVersion);
}

bool is_other_folder(const Place& place, const Place& other) {
  const auto inode = [](std::string_view folder) { return folder.substr(folder.find(':') + 1); };
  return inode(place.folder) != inode(other.folder);
}

Result<std::optional<Identity>> read_identity(const fs::path& folder) {
  const fs::path path = folder / kIdentity;
  const Result<std::string> text = read_file(path, kMaxIdentityBytes);
  if (!text && text.error().kind == ErrorKind::kNotFound) return std::optional<Identity>();
  if (!text) return text.error();
  const Error corrupt{ErrorKind::kCorrupt, path.string() + " is damaged"};
  if (!text->starts_with(kIdentityMagic)) return corrupt;
  const std::optional<std::string_view> version_text = value_of(*text, "version");
  std::uint32_t version = 0;
  if (!version_text ||
      std::from_chars(version_text->data(), version_text->data() + version_text->size(), version).ec != std::errc{}) {
    return corrupt;
  }
  if (version > spool_format::kVersion) {
    return Error{ErrorKind::kInvalid, fmt::format("the spool {} {}", folder.string(), newer_version_words(version))};
  }
  const std::optional<Id> origin = spool_format::id_from_hex(value_of(*text, "recorder").value_or(""));
  if (!origin) return corrupt;
  Identity identity;
  identity.origin = *origin;
  std::string_view renewed = value_of(*text, "renewed").value_or("");
  identity.recorder = spool_format::id_from_hex(take_word(renewed)).value_or(*origin);
  std::from_chars(renewed.data(), renewed.data() + renewed.size(), identity.shared_before);
  identity.place = parse_place(value_of(*text, "place").value_or(""));
  identity.openings = parse_openings(value_of(*text, "openings").value_or(""));
  return std::optional(std::move(identity));
}

Result<void> write_identity(const fs::path& folder, const Identity& identity) {
  std::string text = fmt::format("{}\nversion {}\nrecorder {}\n", kIdentityMagic, spool_format::kVersion,
                                 spool_format::to_hex(identity.origin));
  if (identity.recorder != identity.origin) {
    text += fmt::format("renewed {} {}\n", spool_format::to_hex(identity.recorder), identity.shared_before);
  }
  if (identity.place) {
    text += fmt::format("place {} {} {}\n", identity.place->machine, identity.place->boot, identity.place->folder);
  }
  if (!identity.openings.empty()) text += "openings";
  for (const Incarnation& one : identity.openings) text += fmt::format(" {}:{}", one.id, one.first_seq);
  if (!identity.openings.empty()) text += '\n';
  return replace_file_atomically(folder / kIdentity, text);
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
  assert(from <= to);
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
