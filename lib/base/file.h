// Files and descriptors, with errors that name the operation, the path and what the system said. Blocking plain
// calls; thread-safe as far as the callers do not share a descriptor or a path.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace run_recorder {

// Owns a file descriptor and closes it. close(2)'s own error is ignored: sync before where it matters.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() { reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// "<operation>: <what the system says>", as in system_error_of("open /run/x", errno) -> "open /run/x: Permission
// denied". kNotFound (ENOENT, ENOTDIR), kDenied (EACCES, EPERM, EROFS), kFull (ENOSPC, EDQUOT), kConflict (EEXIST,
// EADDRINUSE), else kIo.
Error system_error_of(std::string_view operation, int error_number = errno);
// The system's words for an errno, thread-safe.
std::string errno_words(int error_number);

// open(2) with O_CLOEXEC added.
Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0600);

// The whole file, or what a pipe gives. kInvalid where it is larger than max_bytes.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t max_bytes);

// Writes all of bytes; short writes and EINTR are continued, and a descriptor that somebody else made non-blocking (a
// terminal or pipe shared with another program) is waited for.
Result<void> write_all(int fd, std::string_view bytes);
// Fills up to size bytes from offset; fewer only at the end of the file.
Result<std::size_t> read_at(int fd, char* buffer, std::size_t size, off_t offset);

struct ReplaceOptions {
  mode_t mode = 0600;
  bool sync = true;  // the content before the rename, the folder after it: after success it survives a loss of power
};
// Readers see the old content or the new, never a mixture. The temporary file lies beside it and is removed on
// failure.
Result<void> replace_file_atomically(const std::filesystem::path& path, std::string_view content,
                                     const ReplaceOptions& options = {});

// Makes the names in a folder durable: after creating, renaming or deleting a file in it.
Result<void> sync_directory(const std::filesystem::path& path);

// Makes the name of a folder or file in the folder it is in durable.
Result<void> sync_name_of(const std::filesystem::path& path);

// The path, or where it is not there, or not for this user to see, the nearest one above it that is.
std::filesystem::path nearest_existing(std::filesystem::path path);

// Creates the folder and its missing parents, each with mode, and makes their names durable. Success where it is
// there already (its mode is left).
Result<void> make_directories(const std::filesystem::path& path, mode_t mode);

}  // namespace run_recorder
