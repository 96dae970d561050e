#include "server/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/log.h"
#include "server/shares.h"

namespace run_recorder {
namespace {

// Descriptors for everything but connections: two for each of 64 remembered processes, 128 connections of the control
// socket, 32 of [metrics] listen, 8 that each of them refused and 64 refused peers that linger, some for databases,
// the spool and the rest (21 of an idle daemon on SQLite).
constexpr std::size_t kOtherDescriptors = 432;

}  // namespace

std::size_t descriptors_for(std::size_t connections) {
  return connections + ConnectionShares::reserve_of(connections) + kOtherDescriptors;
}

std::size_t connections_possible(std::size_t wanted, std::size_t taken) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) {
    return wanted;
  }
  const rlim_t needed = descriptors_for(wanted) + taken;
  if (files.rlim_cur < needed && files.rlim_cur < files.rlim_max) {
    const rlimit raised{std::min(needed, files.rlim_max), files.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) {
      files = raised;
    }
  }
  if (files.rlim_cur >= needed) {
    return wanted;
  }
  const std::size_t free = files.rlim_cur - std::min<std::size_t>(taken, files.rlim_cur);
  const std::size_t others = std::min<std::size_t>(kOtherDescriptors, free / 2);
  std::size_t possible = std::max<std::size_t>(free - others, 1);
  possible -= std::min(ConnectionShares::reserve_of(possible), possible - 1);
  possible = std::min(possible, wanted);
  log_warning("fewer connections than configured: the limit of open files is too low (LimitNOFILE=, ulimit -n)",
              {{"CONFIGURED", wanted}, {"POSSIBLE", possible}, {"LIMIT_NOFILE", files.rlim_cur}});
  return possible;
}

}  // namespace run_recorder
