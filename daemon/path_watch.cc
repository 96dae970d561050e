#include "path_watch.h"

#include <sys/stat.h>

namespace run_recorder {

PathWatch::PathWatch(std::string path, std::string gone, std::string back)
    : path_(std::move(path)), gone_(LogLevel::kError, std::move(gone), std::move(back)) {}

std::optional<PathWatch::File> PathWatch::named() const {
  struct stat status {};
  if (lstat(path_.c_str(), &status) != 0) return std::nullopt;
  return File{status.st_dev, status.st_ino};
}

void PathWatch::check() {
  const std::optional<File> now = named();
  if (!file_) {
    file_ = now;
    return;
  }
  if (now == file_) {
    gone_.clear();
  } else {
    gone_.report(path_);
  }
}

}  // namespace run_recorder
