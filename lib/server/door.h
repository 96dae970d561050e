// Where connections come in: accepts, asks who it is, lets in or refuses with one error (line 0). Belongs to the
// sessions' thread.
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
#include "server/access.h"
#include "server/session.h"

namespace run_recorder {

class Door {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;
  // A peer that may send, and its connection.
  using OnPeer = std::function<void(Socket&&, const Peer&)>;

  // listen_fd listens and does not block; the door closes it.
  Door(SessionContext& context, int listen_fd, OnPeer on_peer);

  void set_rules(AccessList access, std::size_t connections);
  // Starts to accept.
  void open();
  // Accepts nothing more, and lets go of the refused ones that still linger.
  void close();

 private:
  boost::asio::awaitable<void> accept_all();
  // False: nothing more can be accepted now.
  bool accept_one();
  bool out_of_descriptors(int error);
  void admit(UniqueFd connection);
  void refuse(UniqueFd connection, const Refusal& refusal);
  void note_descriptors();
  void note_stranger(const Peer& peer);
  boost::asio::awaitable<void> linger(std::shared_ptr<Socket> socket);

  SessionContext& context_;
  const OnPeer on_peer_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  AccessList access_;
  std::size_t connections_ = 0;
  bool open_ = false;
  bool must_pause_ = false;
  std::set<std::shared_ptr<Socket>> lingering_;
  UniqueFd spare_;             // given up for a moment to refuse a peer when there is no other descriptor left
  std::set<uid_t> strangers_;  // already logged
  RepeatGuard exhausted_;
  std::chrono::steady_clock::time_point last_exhausted_{};
  RepeatGuard crowded_;
};

}  // namespace run_recorder
