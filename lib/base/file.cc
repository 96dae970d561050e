#include "base/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace run_recorder {
namespace {

ErrorKind kind_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return ErrorKind::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorKind::kDenied;
    case ENOSPC:
    case EDQUOT:
      return ErrorKind::kFull;
    case EEXIST:
    case EADDRINUSE:
      return ErrorKind::kConflict;
    default:
      return ErrorKind::kIo;
  }
}

// Writes, sets the mode whatever the umask is, and syncs where asked.
Result<void> write_new_file(const std::filesystem::path& path, std::string_view content,
                            const ReplaceOptions& options) {
  Result<UniqueFd> file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, options.mode);
  if (!file) return file.error();
  const int fd = file->get();
  if (fchmod(fd, options.mode) != 0) return system_error_of("chmod " + path.string());
  Result<void> written = write_all(fd, content);
  if (!written) {
    Error error = written.error();
    error.message = path.string() + ": " + error.message;
    return error;
  }
  if (options.sync && fsync(fd) != 0) return system_error_of("fsync " + path.string());
  return {};
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  const std::filesystem::path parent = path.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

}  // namespace

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

std::string errno_words(int error_number) {
  return std::generic_category().message(error_number);
}

Error system_error_of(std::string_view operation, int error_number) {
  return {kind_of(error_number), std::string(operation) + ": " + errno_words(error_number)};
}

Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, mode_t mode) {
  for (;;) {
    const int fd = open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return UniqueFd(fd);
    if (errno != EINTR) return system_error_of("open " + path.string());
  }
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t max_bytes) {
  Result<UniqueFd> file = open_file(path, O_RDONLY);
  if (!file) return file.error();
  constexpr std::size_t kStep = 1 << 16;
  std::string content;
  for (;;) {
    const std::size_t used = content.size();
    content.resize(used + std::min(kStep, max_bytes + 1 - used));
    const ssize_t got = read(file->get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) {
      content.resize(used);
      continue;
    }
    if (got < 0) return system_error_of("read " + path.string());
    content.resize(used + static_cast<std::size_t>(got));
    if (got == 0) return content;
    if (content.size() > max_bytes) {
      return Error{ErrorKind::kInvalid, path.string() + " is larger than " + std::to_string(max_bytes) + " bytes"};
    }
  }
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EAGAIN) {
      pollfd polled{fd, POLLOUT, 0};
      poll(&polled, 1, -1);
      continue;
    }
    if (written < 0) {
      if (errno == EINTR) continue;
      return system_error_of("write");
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::size_t> read_at(int fd, char* buffer, std::size_t size, off_t offset) {
  std::size_t filled = 0;
  while (filled < size) {
    const ssize_t got = pread(fd, buffer + filled, size - filled, offset + static_cast<off_t>(filled));
    if (got < 0) {
      if (errno == EINTR) continue;
      return system_error_of("read");
    }
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return filled;
}

Result<void> replace_file_atomically(const std::filesystem::path& path, std::string_view content,
                                     const ReplaceOptions& options) {
  // A fixed name: what a crash leaves behind is overwritten by the next try instead of piling up.
  const std::filesystem::path temporary = path.string() + ".tmp";
  Result<void> written = write_new_file(temporary, content, options);
  if (written && rename(temporary.c_str(), path.c_str()) != 0) {
    written = system_error_of("rename " + temporary.string() + " to " + path.string());
  }
  if (!written) {
    unlink(temporary.c_str());
    return written;
  }
  return options.sync ? sync_directory(folder_of(path)) : Result<void>{};
}

Result<void> sync_directory(const std::filesystem::path& path) {
  Result<UniqueFd> folder = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!folder) return folder.error();
  if (fsync(folder->get()) != 0) return system_error_of("fsync " + path.string());
  return {};
}

Result<void> sync_name_of(const std::filesystem::path& path) {
  // "a/b/" is named "b" in "a".
  Result<void> synced = sync_directory(folder_of(path.has_filename() ? path : path.parent_path()));
  if (synced || synced.error().kind != ErrorKind::kDenied) return synced;
  // A folder that one may pass through and not read cannot be synced; its whole file system can.
  Result<UniqueFd> itself = open_file(path, O_RDONLY);
  if (!itself) return itself.error();
  if (syncfs(itself->get()) != 0) return system_error_of("syncfs " + path.string());
  return {};
}

std::filesystem::path nearest_existing(std::filesystem::path path) {
  struct stat found {};
  while (stat(path.c_str(), &found) != 0 && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  return path;
}

Result<void> make_directories(const std::filesystem::path& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) return sync_name_of(path);
  const int error_number = errno;
  struct stat found {};
  if (error_number == EEXIST && stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) return {};
  if (error_number != ENOENT || !path.has_relative_path() || path.parent_path().empty()) {
    return system_error_of("mkdir " + path.string(), error_number);
  }
  if (Result<void> parent = make_directories(path.parent_path(), mode); !parent) return parent;
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return sync_name_of(path);
  return system_error_of("mkdir " + path.string());
}

}  // namespace run_recorder
