// This process's lock on a spool's folder, and whether what is open is still what the path names. A path is not the
// open file: a folder that is deleted, moved or mounted over goes on taking bytes that nobody will find. Blocking
// system calls; for one thread at a time.
#pragma once

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace run_recorder {

class FolderLock {
 public:
  // Locks the folder itself and its lock file, so that neither can be taken while the other is missing. kConflict
  // names the process that has it.
  static Result<FolderLock> acquire(const std::filesystem::path& folder);

  // The descriptor of the folder: stays the same, and valid, as long as the lock.
  int folder() const { return folder_.get(); }

  struct Finding {
    std::string repaired;  // a sentence: the lock file was gone, and is taken anew
    std::string lost;      // a sentence: what happened to which path, and what to do
  };
  // Compares the folder, the lock file and a file in the folder that is open as fd (-1: none) with their paths.
  Finding check(const std::string& name, int fd);

 private:
  FolderLock(std::filesystem::path path, UniqueFd folder, UniqueFd lock)
      : path_(std::move(path)), folder_(std::move(folder)), lock_(std::move(lock)) {}

  std::filesystem::path path_;
  UniqueFd folder_;
  UniqueFd lock_;
};

}  // namespace run_recorder
