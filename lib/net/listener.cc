#include "net/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "base/account.h"
#include "base/file.h"
#include "base/log.h"
#include "base/result.h"
#include "base/socket_path.h"

namespace run_recorder {
namespace {

constexpr int kBacklog = 1024;  // the kernel takes net.core.somaxconn where that is less
constexpr mode_t kFolderMode = 0755;
constexpr std::chrono::seconds kLockPatience{2};
constexpr std::chrono::milliseconds kLockPause{10};

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why) {
  throw StartError(kExitNotThere, fmt::format("cannot listen at {}: {}", path.string(), why));
}

sockaddr_un address_of(const std::filesystem::path& path) {
  if (const auto address = socket_address(path.native())) return *address;
  throw StartError(kExitConfiguration, fmt::format("invalid socket path {}: has {} bytes, must have at most {}",
                                                   path.string(), path.native().size(), kMaxSocketPathBytes));
}

void make_folders(const std::filesystem::path& folder) {
  if (folder.empty() || ::access(folder.c_str(), F_OK) == 0) {
    return;
  }
  make_folders(folder.parent_path());
  if (::mkdir(folder.c_str(), kFolderMode) != 0) {
    if (errno == EEXIST) {
      return;
    }
    throw StartError(kExitNotThere,
                     fmt::format("cannot create the socket's folder {}: {}", folder.string(), errno_words(errno)));
  }
  if (::chmod(folder.c_str(), kFolderMode) != 0) {  // the umask may have taken bits away
    throw StartError(kExitNotThere,
                     fmt::format("cannot open the socket's folder {}: {}", folder.string(), errno_words(errno)));
  }
}

// Two daemons that start at the same moment look at the path one after the other. Everybody who may read the folder
// can hold such a lock, so it is not waited for long, and nothing but that moment depends on it.
UniqueFd lock_folder(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  UniqueFd descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() < 0) {
    refuse(path, fmt::format("cannot open its folder ({})", errno_words(errno)));
  }
  const auto give_up = std::chrono::steady_clock::now() + kLockPatience;
  while (::flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      refuse(path, fmt::format("cannot lock its folder ({})", errno_words(errno)));
    }
    if (std::chrono::steady_clock::now() >= give_up) {
      log_warning("the socket's folder is locked by another process, continuing without the lock",
                  {{"PATH", path.string()}});
      return {};
    }
    std::this_thread::sleep_for(kLockPause);
  }
  return descriptor;
}

UniqueFd stream_socket(const std::filesystem::path& path) {
  UniqueFd descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (descriptor.get() < 0) {
    refuse(path, errno_words(errno));
  }
  return descriptor;
}

// Makes the path free, if what stands there is a socket that nobody listens on.
void clear_path(const std::filesystem::path& path, const sockaddr_un& address) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) {
      return;
    }
    refuse(path, errno_words(errno));
  }
  if (S_ISLNK(found.st_mode)) {
    refuse(path, "it is a symbolic link, which is not followed; remove it or choose another path");
  }
  if (!S_ISSOCK(found.st_mode)) {
    refuse(path, "it exists and is not a socket; remove it or choose another path");
  }
  const UniqueFd probe = stream_socket(path);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 || errno == EAGAIN) {
    refuse(path, "another process listens there");
  }
  if (errno != ECONNREFUSED && errno != ENOENT) {
    refuse(path, fmt::format("cannot tell whether another process listens there ({})", errno_words(errno)));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    refuse(path, fmt::format("cannot remove the stale socket ({})", errno_words(errno)));
  }
}

// Through a descriptor of the file itself, so that nothing that takes its name meanwhile is touched.
struct stat give_to(const std::filesystem::path& path, mode_t mode, std::optional<gid_t> group) {
  const UniqueFd file(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0 || !S_ISSOCK(status.st_mode)) {
    refuse(path, "the socket was replaced while it was being created");
  }
  if (group && ::fchownat(file.get(), "", static_cast<uid_t>(-1), *group, AT_EMPTY_PATH) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    refuse(path, fmt::format("cannot set its group to {} ({})", *group, errno_words(error)));
  }
  const std::string itself = fmt::format("/proc/self/fd/{}", file.get());
  if (::chmod(itself.c_str(), mode) != 0 && ::chmod(path.c_str(), mode) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    refuse(path, fmt::format("cannot set its mode ({})", errno_words(error)));
  }
  return status;
}

}  // namespace

Listener Listener::at(const std::filesystem::path& path, mode_t mode, const std::string& group) {
  const sockaddr_un address = address_of(path);
  std::optional<gid_t> owner;
  if (!group.empty()) {
    owner = find_group(group);
    if (!owner) {
      throw StartError(kExitNotThere, fmt::format("the socket's group: there is no group \"{}\"", group));
    }
  }
  make_folders(path.parent_path());
  const UniqueFd lock = lock_folder(path);
  clear_path(path, address);

  UniqueFd socket = stream_socket(path);
  // bind(2) makes the file with the mode of the socket's own inode: for nobody else until the group is right.
  if (::fchmod(socket.get(), mode & (S_IRUSR | S_IWUSR)) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    refuse(path, errno_words(errno));
  }
  const struct stat status = give_to(path, mode, owner);
  if (::listen(socket.get(), kBacklog) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    refuse(path, errno_words(error));
  }
  Listener listener(socket.release());
  listener.path_ = path;
  listener.device_ = status.st_dev;
  listener.inode_ = status.st_ino;
  return listener;
}

Listener Listener::inherited(int fd) {
  int type = 0;
  int listens = 0;
  int domain = 0;
  socklen_t bytes = sizeof(int);
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0 ||
      ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0 ||
      ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 || type != SOCK_STREAM || domain != AF_UNIX ||
      listens == 0) {
    throw StartError(kExitNotThere,
                     fmt::format("descriptor {} from the service manager is not a listening UNIX stream socket", fd));
  }
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return Listener(fd);
}

Listener::Listener(Listener&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {}

Listener& Listener::operator=(Listener&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  return *this;
}

Listener::~Listener() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
  remove_file();
}

int Listener::release() {
  return std::exchange(fd_, -1);
}

void Listener::remove_file() {
  struct stat found {};
  if (!path_.empty() && ::lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  path_.clear();
}

}  // namespace run_recorder
