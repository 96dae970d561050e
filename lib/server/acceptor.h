// Accepts connections to the event socket: asks who the peer is, admits it or refuses it with one error (line 0), and
// evicts the sessions of peers that new rules forbid. Belongs to the sessions' thread.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "base/file.h"
#include "net/access.h"
#include "net/refusal_guard.h"
#include "server/session_context.h"
#include "server/shares.h"

namespace run_recorder {

class Acceptor {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;
  // A peer that may send, and its connection.
  using OnPeer = std::function<void(Socket&&, const Peer&)>;

  // listen_fd listens and does not block; the acceptor closes it.
  Acceptor(SessionContext& context, int listen_fd, OnPeer on_peer);

  // Sessions whose peers these rules forbid are evicted.
  void set_rules(AccessList access, std::size_t connections);
  // The error, the end of our sending, and a moment for the peer to read both.
  void refuse(UniqueFd connection, const Refusal& refusal);
  // The connection of a peer that was admitted has ended.
  void closed(const Peer& peer) { shares_.remove(peer); }
  // Starts to accept.
  void start();
  // Admits or refuses all peers that wait to be accepted now. False: that is not possible at the moment.
  bool accept_waiting();
  // Accepts nothing more, and lets go of the refused ones that still linger.
  void stop();

 private:
  boost::asio::awaitable<void> accept_all();
  // False: nothing more can be accepted now.
  bool accept_one();
  bool out_of_descriptors(int error);
  void admit(UniqueFd connection);
  // Whether there is room for one more of this peer's; otherwise it is refused.
  bool has_room(UniqueFd& connection, const Peer& peer);
  void evict_forbidden();
  void log_forbidden(const Peer& peer);
  boost::asio::awaitable<void> linger(std::shared_ptr<Socket> socket);

  SessionContext& context_;
  const OnPeer on_peer_;
  boost::asio::local::stream_protocol::acceptor socket_;
  boost::asio::steady_timer backoff_;
  AccessList access_;
  ConnectionShares shares_;
  bool running_ = false;
  bool back_off_ = false;
  std::set<std::shared_ptr<Socket>> lingering_;
  UniqueFd spare_;  // given up for a moment to refuse a peer when there is no other descriptor left
  std::set<uid_t> forbidden_logged_;
  RefusalGuard exhausted_;
  RefusalGuard crowded_;
};

}  // namespace run_recorder
