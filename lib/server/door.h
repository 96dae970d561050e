// Where connections come in: accepts, asks who it is, lets in or refuses with one error (line 0); and sends away who
// may no longer send. Belongs to the sessions' thread.
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
#include "base/log.h"
#include "net/access.h"
#include "server/session.h"
#include "server/shares.h"

namespace run_recorder {

// Something that peers meet one after the other, said when it begins and when none has met it for a while.
class LastingRefusal {
 public:
  LastingRefusal(LogLevel level, std::string begins, std::string ends)
      : guard_(level, std::move(begins), std::move(ends)) {}
  void report(std::string_view detail);
  void clear_when_over();
  bool active() const { return guard_.active(); }

 private:
  RepeatGuard guard_;
  std::chrono::steady_clock::time_point last_{};
};

class Door {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;
  // A peer that may send, and its connection.
  using OnPeer = std::function<void(Socket&&, const Peer&)>;

  // listen_fd listens and does not block; the door closes it.
  Door(SessionContext& context, int listen_fd, OnPeer on_peer);

  // Those who are in and may not send by these rules are sent away.
  void set_rules(AccessList access, std::size_t connections);
  // The error, the end of our sending, and a moment for the peer to read both.
  void refuse(UniqueFd connection, const Refusal& refusal);
  // A peer that was let in has gone.
  void left(const Peer& peer) { shares_.remove(peer); }
  // Starts to accept.
  void open();
  // Lets in, or refuses, everybody who waits to be accepted now. False: that is not possible at the moment.
  bool accept_waiting();
  // Accepts nothing more, and lets go of the refused ones that still linger.
  void close();

 private:
  boost::asio::awaitable<void> accept_all();
  // False: nothing more can be accepted now.
  bool accept_one();
  bool out_of_descriptors(int error);
  void admit(UniqueFd connection);
  // Whether there is room for one more of this peer's; otherwise it is refused.
  bool has_room(UniqueFd& connection, const Peer& peer);
  void send_strangers_away();
  void note_stranger(const Peer& peer);
  boost::asio::awaitable<void> linger(std::shared_ptr<Socket> socket);

  SessionContext& context_;
  const OnPeer on_peer_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  AccessList access_;
  ConnectionShares shares_;
  bool open_ = false;
  bool must_pause_ = false;
  std::set<std::shared_ptr<Socket>> lingering_;
  UniqueFd spare_;             // given up for a moment to refuse a peer when there is no other descriptor left
  std::set<uid_t> strangers_;  // already logged
  LastingRefusal exhausted_;
  LastingRefusal crowded_;
};

}  // namespace run_recorder
