#include "net/access.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/account.h"

namespace run_recorder {
namespace {

std::vector<gid_t> supplementary_groups(int socket) {
  std::vector<gid_t> groups(32);
  socklen_t bytes = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int outcome = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes);
  if (outcome != 0 && errno == ERANGE) {  // bytes now says how many there are
    groups.resize(bytes / sizeof(gid_t));
    outcome = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes);
  }
  groups.resize(outcome == 0 ? bytes / sizeof(gid_t) : 0);
  return groups;
}

#ifdef SO_PEERPIDFD
constexpr int kPeerPidfd = SO_PEERPIDFD;
#else
constexpr int kPeerPidfd = 77;  // asm-generic/socket.h
#endif

// The peer's pidfd; errno otherwise.
process::PidfdResult ask_for_peer_pidfd(int socket) {
  int fd = -1;
  socklen_t bytes = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, kPeerPidfd, &fd, &bytes) != 0) return {UniqueFd(), errno};
  return {UniqueFd(fd), 0};
}

// Tried once, on a pair of this process's own: what a refusal means is only known where the option is.
bool kernel_has_peer_pidfds() {
  static const bool has = [] {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
    const UniqueFd near(ends[0]);
    const UniqueFd far(ends[1]);
    return static_cast<bool>(ask_for_peer_pidfd(near.get()).fd);
  }();
  return has;
}

process::PidfdResult peer_pidfd(int socket, pid_t pid) {
  if (!kernel_has_peer_pidfds()) return process::open_pidfd(pid);
  process::PidfdResult pidfd = ask_for_peer_pidfd(socket);
  if (pidfd.error_number == EINVAL) pidfd.error_number = ESRCH;  // as up to Linux 6.15 for one that has been reaped
  return pidfd;
}

}  // namespace

Sender sender_of(int socket, const Peer& peer) {
  return peer.pid ? identify_sender(*peer.pid, peer_pidfd(socket, *peer.pid)) : Sender();
}

Peer peer_of(int socket) {
  Peer peer;
  ucred credentials{};
  socklen_t bytes = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    return peer;
  }
  peer.uid = credentials.uid;
  if (credentials.pid > 0) {
    peer.pid = credentials.pid;
  }
  peer.groups = {credentials.gid};
  const std::vector<gid_t> others = supplementary_groups(socket);
  peer.groups.insert(peer.groups.end(), others.begin(), others.end());
  return peer;
}

Result<AccessList> AccessList::resolve(const std::vector<std::string>& users,
                                       const std::vector<std::string>& groups) {
  AccessList list;
  for (const std::string& user : users) {
    const auto uid = find_user(user);
    if (!uid) {
      return Error{ErrorKind::kInvalid, fmt::format("there is no user \"{}\" on this system", user)};
    }
    list.users_.push_back(*uid);
  }
  for (const std::string& group : groups) {
    const auto gid = find_group(group);
    if (!gid) {
      return Error{ErrorKind::kInvalid, fmt::format("there is no group \"{}\" on this system", group)};
    }
    list.groups_.push_back(*gid);
  }
  return list;
}

bool AccessList::allows(const Peer& peer) const {
  if (users_.empty() && groups_.empty()) {
    return true;
  }
  if (peer.uid && std::find(users_.begin(), users_.end(), *peer.uid) != users_.end()) {
    return true;
  }
  return std::any_of(peer.groups.begin(), peer.groups.end(), [this](gid_t group) {
    return std::find(groups_.begin(), groups_.end(), group) != groups_.end();
  });
}

}  // namespace run_recorder
