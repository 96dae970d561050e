#include "spool/file_system.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

#include "base/file.h"

namespace run_recorder {
namespace {

constexpr std::string_view kForgetful = "acknowledged events do not survive a restart of the host";
constexpr std::string_view kRemote = "locks and syncs over a network are not to be relied on";

struct KnownFileSystem {
  std::int64_t f_type;  // linux/magic.h, and statfs(2) for those that it leaves out
  std::string_view name;
  std::string_view loses;
};
constexpr KnownFileSystem kKnownFileSystems[] = {
    {0x01021994, "tmpfs", kForgetful}, {0x858458f6, "ramfs", kForgetful}, {0x6969, "nfs", kRemote},
    {0xff534d42, "cifs", kRemote},     {0xfe534d42, "smb", kRemote},      {0x517b, "smb", kRemote},
    {0x01021997, "9p", kRemote},       {0x5346414f, "afs", kRemote},      {0x00c36400, "ceph", kRemote},
};

constexpr std::int64_t kFuse = 0x65735546;
constexpr std::string_view kRemoteFuse[] = {"fuse.sshfs",  "fuse.glusterfs", "fuse.ceph",     "fuse.ceph-fuse",
                                            "fuse.rclone", "fuse.s3fs",      "fuse.mount-s3", "fuse.davfs"};

// The type of the file system with that device number, by its mount; empty: there is none. Each line (proc(5)): id,
// parent, major:minor, root, mount point, options, optional fields, "-", type, source, options.
std::string mount_type_of(dev_t device) {
  const std::string wanted = fmt::format("{}:{}", major(device), minor(device));
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream stream(line);
    const std::vector<std::string> fields{std::istream_iterator<std::string>(stream), {}};
    const auto dash = std::ranges::find(fields, "-");
    if (fields.size() > 2 && fields[2] == wanted && fields.end() - dash > 1) return *(dash + 1);
  }
  return {};
}

std::uint64_t free_bytes_of(const struct statvfs& disk) {
  return static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
}

}  // namespace

std::string WeakFileSystem::words(const std::filesystem::path& path) const {
  return fmt::format("{} is on {}: {}", path.string(), type, loses);
}

std::optional<WeakFileSystem> weakness_of(std::int64_t f_type, std::string_view mount_type) {
  if (f_type == kFuse) {
    if (std::ranges::count(kRemoteFuse, mount_type) == 0) return std::nullopt;
    return WeakFileSystem{std::string(mount_type), kRemote};
  }
  const auto found = std::ranges::find(kKnownFileSystems, f_type, &KnownFileSystem::f_type);
  if (found == std::end(kKnownFileSystems)) return std::nullopt;
  return WeakFileSystem{std::string(found->name), found->loses};
}

std::optional<WeakFileSystem> weak_file_system(const std::filesystem::path& folder) {
  const std::filesystem::path there = nearest_existing(folder);
  struct statfs found {};
  if (::statfs(there.c_str(), &found) != 0) return std::nullopt;
  struct stat status {};
  const bool fuse = found.f_type == kFuse && ::stat(there.c_str(), &status) == 0;
  // Some libraries have f_type as a signed word, in which a large number is negative.
  constexpr std::int64_t kWord = 0xffffffff;
  return weakness_of(std::int64_t{found.f_type} & kWord, fuse ? mount_type_of(status.st_dev) : std::string());
}

Result<DiskSpace> disk_space(const std::filesystem::path& folder) {
  DiskSpace space{.path = nearest_existing(folder)};
  struct statvfs disk {};
  if (::statvfs(space.path.c_str(), &disk) != 0) return system_error_of(space.path.string());
  space.free_bytes = free_bytes_of(disk);
  space.read_only = (disk.f_flag & ST_RDONLY) != 0;
  return space;
}

std::optional<std::uint64_t> free_bytes_under(int folder) {
  struct statvfs disk {};
  if (::fstatvfs(folder, &disk) != 0) return std::nullopt;
  return free_bytes_of(disk);
}

}  // namespace run_recorder
