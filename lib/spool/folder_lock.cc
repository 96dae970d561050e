#include "spool/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <thread>

#include "spool/folder.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;

// Tools of earlier releases took a shared lock for a moment to see whether a process holds the spool.
constexpr int kTries = 50;
constexpr std::chrono::milliseconds kBetweenTries{10};

constexpr std::string_view kWhatToDo =
    "stop the daemon (it still applies what it can read), put the folder back, and start it again";

Error held_by_another(const fs::path& folder) {
  const std::optional<int> pid = spool_folder::holder(folder);
  return Error{ErrorKind::kConflict, fmt::format("the spool {} is held by another process{}", folder.string(),
                                                 pid ? fmt::format(" ({})", *pid) : std::string())};
}

// Who holds it, for people and for the message above; the lock itself is the kernel's.
void write_pid(int fd) {
  const std::string pid = fmt::format("{}\n", getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    // A full disk must not keep the spool from being opened.
  }
}

// A lock that can be asked for without being taken; 0, or the errno.
int lock_record(int fd) {
  struct flock wanted {};
  wanted.l_type = F_WRLCK;
  wanted.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_SETLK, &wanted) == 0 ? 0 : errno;
}

Result<UniqueFd> take_lock_file(const fs::path& folder) {
  const fs::path path = folder / spool_folder::kLock;
  Result<UniqueFd> file = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (!file) return file;
  for (int tries = 0; flock(file->get(), LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK) return system_error_of("lock " + path.string());
    if (tries == kTries || spool_folder::holder(folder)) return held_by_another(folder);
    std::this_thread::sleep_for(kBetweenTries);
  }
  if (const int error = lock_record(file->get()); error == EAGAIN || error == EACCES) return held_by_another(folder);
  write_pid(file->get());
  return file;
}

enum class Named { kSame, kGone, kAnother };

// What the path names, beside the open file. An error that says nothing of that, as a right that is missing, changes
// nothing.
Named named(int error, const struct stat& status, int fd) {
  struct stat open {};
  if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == ESTALE) return Named::kGone;
  if (error != 0 || fstat(fd, &open) != 0) return Named::kSame;
  return status.st_dev == open.st_dev && status.st_ino == open.st_ino ? Named::kSame : Named::kAnother;
}

Named named_by(const fs::path& path, int fd) {
  struct stat status {};
  return named(stat(path.c_str(), &status) == 0 ? 0 : errno, status, fd);
}

Named named_in(int folder, const std::string& name, int fd) {
  struct stat status {};
  return named(fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno, status, fd);
}

std::string lost_words(std::string_view what, const fs::path& path, Named found) {
  return fmt::format("{} {} {}; {}", what, path.string(),
                     found == Named::kGone ? "was deleted or moved away" : "was replaced", kWhatToDo);
}

}  // namespace

Result<FolderLock> FolderLock::acquire(const fs::path& path) {
  Result<UniqueFd> folder = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!folder) return folder.error();
  // Some file systems lock no folders; the file's lock is left then.
  if (flock(folder->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return held_by_another(path);
  Result<UniqueFd> lock = take_lock_file(path);
  if (!lock) return lock.error();
  return FolderLock(path, std::move(*folder), std::move(*lock));
}

FolderLock::Finding FolderLock::check(const std::string& name, int fd) {
  if (const Named found = named_by(path_, folder_.get()); found != Named::kSame) {
    return {{}, lost_words("the folder", path_, found)};
  }
  if (const Named found = fd < 0 ? Named::kSame : named_in(folder_.get(), name, fd); found != Named::kSame) {
    return {{}, lost_words("the segment", path_ / name, found)};
  }
  if (named_in(folder_.get(), std::string(spool_folder::kLock), lock_.get()) == Named::kSame) return {};
  // The folder is locked too, so no other process can have the spool. Where that was not possible, this lock tells.
  Result<UniqueFd> lock = take_lock_file(path_);
  if (!lock && lock.error().kind == ErrorKind::kConflict) {
    return {{}, fmt::format("its lock file was deleted, and {}; stop one of the two", lock.error().message)};
  }
  if (!lock) return {};  // no room, no descriptor left: the next check tries again
  lock_ = std::move(*lock);
  return {fmt::format("the lock file {} was deleted or replaced while the spool was in use, created and locked it "
                      "again",
                      (path_ / spool_folder::kLock).string()),
          {}};
}

}  // namespace run_recorder
