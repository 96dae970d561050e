#include "file_limit.h"

#include <sys/resource.h>

#include <algorithm>

namespace run_recorder {

std::size_t room_for_processes(std::size_t others) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return 0;
  const rlim_t needed = others + kMostWatchedProcesses;
  if (files.rlim_cur < needed && files.rlim_cur < files.rlim_max) {
    const rlimit raised{std::min(needed, files.rlim_max), files.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) files = raised;
  }
  const std::size_t least = files.rlim_cur / 16;
  const std::size_t room = files.rlim_cur > others ? files.rlim_cur - others : 0;
  return std::min(std::max(room, least), kMostWatchedProcesses);
}

}  // namespace run_recorder
