// Whether a path still names the file it named: a socket that was deleted or exchanged listens on, and nobody can
// connect to it any more. For the main thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/log.h"

namespace run_recorder {

class PathWatch {
 public:
  // The two messages, as of RepeatGuard.
  PathWatch(std::string path, std::string gone, std::string back);

  // The first call remembers the file, each later one compares; says at error where it is gone, once, and where it is
  // back.
  void check();

 private:
  struct File {
    dev_t device;
    ino_t inode;
    bool operator==(const File&) const = default;
  };
  std::optional<File> named() const;

  const std::string path_;
  std::optional<File> file_;
  RepeatGuard gone_;
};

}  // namespace run_recorder
