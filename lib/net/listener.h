// A listening UNIX socket at a path, taken safely: what somebody else uses is never removed, a symbolic link is never
// followed, and owner and mode are right (or stricter) from the first moment, whatever the umask is. For start-up
// code, one thread at a time.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace run_recorder {

class Listener {
 public:
  // group: a name or number, or empty. Waits up to 2 s for another process that listens in the same folder. Throws
  // StartError: 69 when the path is in use or cannot be used or the group is unknown, 78 when the path is too long.
  static Listener at(const std::filesystem::path& path, mode_t mode, const std::string& group);
  // A socket that the service manager listens on already. Throws StartError (69) when it is no such socket.
  static Listener inherited(int fd);

  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&& other) noexcept;
  ~Listener();

  // Listens, does not block, is closed on exec. -1 after release.
  int fd() const { return fd_; }
  // Gives the descriptor away; the socket file stays this object's.
  int release();
  // Removes the socket file, unless another one has taken its place or it was inherited.
  void remove_file();

 private:
  explicit Listener(int fd) : fd_(fd) {}

  int fd_ = -1;
  std::filesystem::path path_;  // empty: inherited, or removed
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace run_recorder
