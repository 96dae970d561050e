#include "cli/unsent_events.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "base/account.h"
#include "base/ascii.h"
#include "base/percent.h"
#include "base/utf8.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::string_view kSuffix = ".ndjson";
constexpr std::string_view kRefusedSuffix = ".refused.ndjson";
constexpr std::size_t kMaxName = 240;

std::string absolute_folder(const Environment& environment, const std::string& name) {
  const auto at = environment.find(name);
  return at == environment.end() || !at->second.starts_with('/') ? std::string() : at->second;
}

// Whether what is made there would lie among another user's files, as for root with the environment of whoever
// called sudo. What root owns, as /tmp, is nobody's in particular.
bool is_another_users(const std::string& folder, uid_t uid) {
  struct stat status {};
  if (::stat(nearest_existing(folder).c_str(), &status) != 0) return false;
  return status.st_uid != uid && status.st_uid != 0;
}

// "/run/run-recorder/events.sock" as "+run+run-recorder+events.sock": readable, and no two paths are the same.
std::string file_name_of(const std::string& path) {
  std::string name;
  for (const char c : path) name += c == '/' ? std::string("+") : percent_encode(std::string_view(&c, 1));
  return name.size() > kMaxName ? std::string() : name;
}

// A lock that ends with the descriptor. Others hold it for as long as a file is written; one of them may be stopped.
bool lock_file(int fd) {
  constexpr int kTries = 100;
  constexpr int kPauseMs = 10;
  for (int i = 0; i < kTries; ++i) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK && errno != EINTR) return false;
    ::poll(nullptr, 0, kPauseMs);
  }
  errno = EWOULDBLOCK;
  return false;
}

// Opened and locked against whoever replaces the file meanwhile; an invalid descriptor and errno where that fails.
UniqueFd open_locked(int folder, const std::string& name, int flags) {
  while (true) {
    UniqueFd fd(::openat(folder, name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd || !lock_file(fd.get())) return {};
    struct stat opened {};
    struct stat named {};
    const bool is_there = ::fstat(fd.get(), &opened) == 0 &&
                          ::fstatat(folder, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
                          opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
    if (is_there) return fd;
    if ((flags & O_CREAT) == 0) {
      errno = ENOENT;
      return {};
    }
  }
}

// What a file holds; empty where it is more than there may be.
std::string content_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || status.st_size < 0) return {};
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > 2 * kMaxUnsentBytes) return {};
  std::string content(size, '\0');
  const Result<std::size_t> got = read_at(fd, content.data(), size, 0);
  content.resize(got ? *got : 0);
  return content;
}

struct KeptFile {
  std::string name;
  std::uint64_t bytes = 0;
};
// The regular ones, by name; none where the folder cannot be read.
std::vector<KeptFile> files_in(int folder) {
  std::vector<KeptFile> files;
  const int copy = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const entries = copy < 0 ? nullptr : ::fdopendir(copy);
  if (entries == nullptr) {
    if (copy >= 0) ::close(copy);
    return files;
  }
  while (const dirent* const entry = ::readdir(entries)) {
    struct stat status {};
    if (::fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode)) {
      files.push_back({entry->d_name, static_cast<std::uint64_t>(status.st_size)});
    }
  }
  ::closedir(entries);
  std::ranges::sort(files, {}, &KeptFile::name);
  return files;
}

std::uint64_t bytes_in(int folder) {
  std::uint64_t bytes = 0;
  for (const KeptFile& file : files_in(folder)) bytes += file.bytes;
  return bytes;
}

// NAME@UNIQUE.ndjson; file_name_of() spells no path with an @.
bool is_left_by_client(std::string_view file, std::string_view name) {
  if (!file.starts_with(name) || !file.ends_with(kSuffix)) return false;
  file.remove_prefix(name.size());
  if (!file.starts_with('@') || file.size() <= 1 + kSuffix.size()) return false;
  const std::string_view unique = file.substr(1, file.size() - 1 - kSuffix.size());
  return std::ranges::all_of(unique, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || c == '-'; });
}

bool is_empty_line(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// At the end of a file; what cannot be written whole is not there afterwards.
Result<void> append(int folder, const std::string& name, const std::string& path, std::string_view lines) {
  if (bytes_in(folder) + lines.size() > kMaxUnsentBytes) {
    return Error{ErrorKind::kFull,
                 fmt::format("{} of events are kept there already", size_in_words(kMaxUnsentBytes))};
  }
  const UniqueFd fd = open_locked(folder, name, O_RDWR | O_CREAT | O_APPEND);
  if (!fd) return system_error_of("open " + path);
  struct stat before {};
  if (::fstat(fd.get(), &before) != 0) return system_error_of("look at " + path);
  char last = '\n';
  if (before.st_size > 0) (void)read_at(fd.get(), &last, 1, before.st_size - 1);
  // Behind one that was not written whole, so that only that one is lost.
  Result<void> written = write_all(fd.get(), (last == '\n' ? "" : "\n") + std::string(lines));
  if (written && ::fdatasync(fd.get()) != 0) written = system_error_of("sync " + path);
  if (!written && ::ftruncate(fd.get(), before.st_size) != 0) return system_error_of("shorten " + path);
  return written;
}

}  // namespace

std::string unsent_folder(const Environment& environment, uid_t uid) {
  constexpr std::string_view kBelow = "/run-recorder/unsent";
  constexpr std::string_view kStateBelowHome = "/.local/state";
  std::string state = absolute_folder(environment, "XDG_STATE_HOME");
  if (!state.empty() && !is_another_users(state, uid)) return state.append(kBelow);
  std::string home = absolute_folder(environment, "HOME");
  if (home.empty() || is_another_users(home, uid)) {
    const auto user = user_with(uid);
    home = user && user->home.starts_with('/') ? user->home : std::string();
  }
  return home.empty() ? std::string() : home.append(kStateBelowHome).append(kBelow);
}

UnsentEvents::UnsentEvents(std::string folder, const EventSocket& socket)
    : folder_(std::move(folder)), name_(file_name_of(socket.path)), assumed_(socket.assumed) {
  const std::string config = file_name_of(socket.config_file);
  if (!config.empty()) config_name_ = "config" + config;
}

// The folder must be this user's own: root may run with the home of somebody else.
Result<UniqueFd> UnsentEvents::open_folder(bool make) const {
  if (folder_.empty()) return Error{ErrorKind::kNotFound, "this user has no home"};
  if (name_.empty()) return Error{ErrorKind::kInvalid, "the path of the socket is too long for the name of a file"};
  if (make) {
    if (const Result<void> made = make_directories(folder_, 0700); !made) return made.error();
  }
  UniqueFd folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder) return system_error_of("open " + folder_);
  struct stat status {};
  if (::fstat(folder.get(), &status) != 0) return system_error_of("look at " + folder_);
  if (status.st_uid != ::geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Error{ErrorKind::kDenied, fmt::format("{} can be written by others than this user", folder_)};
  }
  return folder;
}

const std::vector<std::string>& UnsentEvents::take() {
  if (sender_) return lines_;
  Result<UniqueFd> folder = open_folder(false);
  if (!folder || ::flock(folder->get(), LOCK_EX | LOCK_NB) != 0) return lines_;
  for (const std::string& name : {config_name_, name_}) {
    if (!name.empty()) take_file(folder->get(), name + std::string(kSuffix), Whole::kNo);
  }
  std::uint64_t bytes = 0;
  for (const KeptFile& file : files_in(folder->get())) {
    if (!is_left_by_client(file.name, name_)) continue;
    if (bytes + file.bytes > kMaxUnsentBytes) continue;  // another time
    bytes += file.bytes;
    take_file(folder->get(), file.name, Whole::kYes);
  }
  if (lines_.empty()) return lines_;
  settled_.assign(lines_.size(), false);
  left_ = lines_.size();
  sender_ = std::move(*folder);
  return lines_;
}

void UnsentEvents::take_file(int folder, const std::string& name, Whole whole) {
  Taken taken{.name = name, .content = {}, .first = lines_.size()};
  {
    const UniqueFd file = open_locked(folder, name, O_RDONLY);
    if (file) taken.content = content_of(file.get());
  }
  if (whole == Whole::kNo) {
    // A line without its end was not written whole.
    taken.content.resize(taken.content.rfind('\n') == std::string::npos ? 0 : taken.content.rfind('\n') + 1);
  }
  std::vector<std::string> lines = lines_of(taken.content);
  std::erase_if(lines, is_empty_line);
  if (lines.empty()) return;
  taken.lines = lines.size();
  lines_.insert(lines_.end(), std::make_move_iterator(lines.begin()), std::make_move_iterator(lines.end()));
  taken_.push_back(std::move(taken));
}

void UnsentEvents::acknowledged(std::size_t line) {
  if (line >= settled_.size() || settled_[line]) return;
  settled_[line] = true;
  --left_;
}

std::string UnsentEvents::set_aside(std::size_t line) {
  if (line >= settled_.size() || settled_[line] || !sender_) return {};
  const std::string name = name_ + std::string(kRefusedSuffix);
  if (!append(sender_.get(), name, path_of(name), lines_[line] + "\n")) return {};
  acknowledged(line);
  return path_of(name);
}

void UnsentEvents::release() {
  if (!sender_) return;
  const UniqueFd folder = std::move(sender_);
  for (const Taken& taken : taken_) shorten(folder.get(), taken);
}

void UnsentEvents::shorten(int folder, const Taken& taken) const {
  std::string rest;
  std::size_t left = 0;
  for (std::size_t i = taken.first; i < taken.first + taken.lines; ++i) {
    if (settled_[i]) continue;
    rest.append(lines_[i]).append("\n");
    ++left;
  }
  if (left == taken.lines) return;
  const UniqueFd file = open_locked(folder, taken.name, O_RDWR);
  if (!file) return;
  const std::string content = content_of(file.get());
  if (!content.starts_with(taken.content)) return;  // somebody else has changed it: all is sent again
  rest.append(content, taken.content.size());
  if (rest.empty()) {
    ::unlinkat(folder, taken.name.c_str(), 0);
    return;
  }
  // Whoever appends has waited for our lock, and looks whether it is still the file of that name.
  const std::string made = taken.name + ".new";
  ::unlinkat(folder, made.c_str(), 0);
  const UniqueFd fresh(::openat(folder, made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fresh || !write_all(fresh.get(), rest) || ::fdatasync(fresh.get()) != 0 ||
      ::renameat(folder, made.c_str(), folder, taken.name.c_str()) != 0) {
    ::unlinkat(folder, made.c_str(), 0);
  }
}

Result<std::string> UnsentEvents::keep(std::string_view lines) {
  const Result<UniqueFd> folder = open_folder(true);
  if (!folder) return folder.error();
  const bool by_config = assumed_ && !config_name_.empty();
  const std::string name = (by_config ? config_name_ : name_) + std::string(kSuffix);
  if (const Result<void> kept = append(folder->get(), name, path_of(name), lines); !kept) return kept.error();
  return path_of(name);
}

std::string set_aside_in_words(UnsentEvents& events, std::size_t line, const EventRefusal& refusal) {
  const std::string file = events.set_aside(line);
  return printable(fmt::format("the daemon refused an event that was kept from earlier: {}{}", to_string(refusal),
                               file.empty() ? "" : "; it is in " + file));
}

}  // namespace run_recorder
