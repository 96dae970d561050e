// Who holds how many of the event socket's connections, and whether one more of theirs comes in: nobody can hold so
// many that another user's worker, or another process of the same user, finds no room. Counts only; for the sessions'
// thread.
//
// `connections` are for whoever comes first. Beyond these a sixteenth more is kept for processes that hold few, and
// another sixteenth for users that hold few: fewer than half of what is left of it, so that many who take what they
// can leave something to the next one. Of 1,024, the 64 of the processes are for those with up to 31, the last 64 for
// users with up to 31.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <unordered_map>

#include "net/access.h"

namespace run_recorder {

class ConnectionShares {
 public:
  static std::size_t reserve_of(std::size_t connections) { return 2 * reserve_of_each(connections); }

  void set_limit(std::size_t connections) { limit_ = connections; }
  bool has_room_for(const Peer& peer) const;
  void add(const Peer& peer);
  // Precondition: added before.
  void remove(const Peer& peer);

  // Why there is no room for one more, for that peer; and who holds the most, for the log.
  std::string refusal(const Peer& peer) const;
  std::string largest_holders() const;

 private:
  struct User {
    std::size_t held = 0;
    std::unordered_map<pid_t, std::size_t> processes;  // those that can be told apart
  };
  static std::size_t reserve_of_each(std::size_t connections) { return (connections + 15) / 16; }
  std::size_t held_by_user(const Peer& peer) const;
  std::optional<std::size_t> held_by_process(const Peer& peer) const;

  std::size_t limit_ = 0;
  std::size_t held_ = 0;
  std::unordered_map<uid_t, User> users_;
};

}  // namespace run_recorder
