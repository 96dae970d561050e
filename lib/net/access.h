// Who is at the other end of a UNIX socket, and whether it may send (SO_PEERCRED, SO_PEERGROUPS: socket(7), unix(7)).
// Thread-safe; resolving names asks the system's user database and may block, so it is for start and reload.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "process/identity.h"

namespace run_recorder {

struct Peer {
  std::optional<uid_t> uid;
  std::optional<pid_t> pid;   // empty: from a PID namespace we cannot see
  std::vector<gid_t> groups;  // the primary one first
};
Peer peer_of(int socket);
// The process that connected. Where the kernel has SO_PEERPIDFD (Linux 6.5), one that had ended by then is told from
// a later process with its pid, which it may otherwise be taken for. It is known to be gone then, and its identity
// says so (absent): nobody can speak for it any more. A child of it that holds the connection still can, while that
// is open.
Sender sender_of(int socket, const Peer& peer);

class AccessList {
 public:
  // Lets everybody in.
  AccessList() = default;
  // Names or numbers. Error: kInvalid, names what is unknown.
  static Result<AccessList> resolve(const std::vector<std::string>& users, const std::vector<std::string>& groups);

  bool allows(const Peer& peer) const;

 private:
  std::vector<uid_t> users_;
  std::vector<gid_t> groups_;
};

}  // namespace run_recorder
