// On what a spool lies: some file systems cannot keep what a spool promises. Reads the system; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace run_recorder {

struct WeakFileSystem {
  std::string type;        // "tmpfs", "nfs", "fuse.sshfs"
  std::string_view loses;  // what the promise loses there
  std::string words(const std::filesystem::path& path) const;
};

// Of the folder, or where it is not there yet of the nearest one above it that is. Empty: nothing speaks against it,
// or it cannot be told.
std::optional<WeakFileSystem> weak_file_system(const std::filesystem::path& folder);

struct DiskSpace {
  std::filesystem::path path;    // the folder, or the nearest one above it
  std::uint64_t free_bytes = 0;  // for others than root
  bool read_only = false;
};
Result<DiskSpace> disk_space(const std::filesystem::path& folder);
// The same of an open folder; empty: the system does not say.
std::optional<std::uint64_t> free_bytes_under(int folder);

// By statfs(2)'s f_type; mount_type: the type as /proc/self/mountinfo names it, which tells the kinds of FUSE. Pure.
std::optional<WeakFileSystem> weakness_of(std::int64_t f_type, std::string_view mount_type);

}  // namespace run_recorder
