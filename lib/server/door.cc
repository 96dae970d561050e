#include "server/door.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <exception>
#include <utility>

namespace run_recorder {
namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

constexpr int kAcceptedAtOnce = 32;               // before the sessions have their turn
constexpr int kLongestQueue = 4'096;              // of peers that wait to be accepted; net.core.somaxconn as a rule
constexpr std::chrono::milliseconds kPause{100};  // when the system cannot give us a connection
constexpr std::size_t kStrangersLogged = 64;      // distinct users
constexpr std::size_t kDrained = 1 << 20;         // bytes of a refused peer, at most
constexpr int kSendBuffer = 32 << 10;             // of the kernel, for answers that the peer does not read

constexpr std::chrono::seconds kProven{5};  // without a refusal, before it counts as over

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

// A coroutine that throws is a broken invariant: let it end the process.
void rethrow(const std::exception_ptr& exception) {
  if (exception) {
    std::rethrow_exception(exception);
  }
}

Refusal forbidden(const Peer& peer) {
  return {RefusalCode::kForbidden, fmt::format("user {} may not send events here (allow_users, allow_groups)",
                                               peer.uid ? std::to_string(*peer.uid) : "unknown")};
}

}  // namespace

void LastingRefusal::report(std::string_view detail) {
  guard_.report(detail);
  last_ = std::chrono::steady_clock::now();
}

// Not with the first connection that is let in: it would be said again and again.
void LastingRefusal::clear_when_over() {
  if (guard_.active() && std::chrono::steady_clock::now() - last_ > kProven) {
    guard_.clear();
  }
}

Door::Door(SessionContext& context, int listen_fd, OnPeer on_peer)
    : context_(context),
      on_peer_(std::move(on_peer)),
      acceptor_(context.io, stream_protocol(), listen_fd),
      pause_(context.io),
      spare_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      exhausted_(LogLevel::kError, "no file descriptor is left, new connections are refused",
                 "there are file descriptors again"),
      crowded_(LogLevel::kWarning, "too many connections, new ones are refused",
               "there is room for connections again") {}

void Door::set_rules(AccessList access, std::size_t connections) {
  access_ = std::move(access);
  shares_.set_limit(connections);
  send_strangers_away();
}

void Door::send_strangers_away() {
  std::uint64_t count = 0;
  for (const auto& [number, session] : context_.sessions) {
    const Peer peer = session->ask_peer();
    if (!access_.allows(peer) && session->send_away(forbidden(peer))) {
      ++count;
    }
  }
  if (count > 0) {
    context_.counters.update([count](ServerCounters& counters) { counters.connections_forbidden += count; });
    log_warning("connections of users who may no longer send are closed", {{"CONNECTIONS", count}});
  }
}

void Door::open() {
  open_ = true;
  asio::co_spawn(context_.io, accept_all(), rethrow);
}

void Door::close() {
  open_ = false;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  pause_.cancel();
  for (const auto& socket : lingering_) {
    socket->close(ignored);
  }
}

asio::awaitable<void> Door::accept_all() {
  while (open_) {
    const auto [error] = co_await acceptor_.async_wait(stream_protocol::acceptor::wait_read, kAwait);
    if (!open_) {
      break;
    }
    must_pause_ = static_cast<bool>(error);
    for (int count = 0; count < kAcceptedAtOnce && !must_pause_ && accept_one(); ++count) {
    }
    if (must_pause_) {
      pause_.expires_after(kPause);
      co_await pause_.async_wait(kAwait);
    }
  }
}

// They come in their order, so whoever waited when this began is among the first so many.
bool Door::accept_waiting() {
  if (!open_) {
    return false;
  }
  must_pause_ = false;
  for (int count = 0; count < kLongestQueue && accept_one(); ++count) {
  }
  return !must_pause_;
}

bool Door::accept_one() {
  UniqueFd connection(::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (connection) {
    exhausted_.clear_when_over();
    admit(std::move(connection));
    return true;
  }
  const int error = errno;
  if (error == EINTR || error == ECONNABORTED) {
    return true;
  }
  if (!would_block(error)) {
    must_pause_ = !out_of_descriptors(error);
    return !must_pause_;
  }
  return false;
}

// Refuses one peer by means of the spare descriptor. False: that did not work either.
bool Door::out_of_descriptors(int error) {
  exhausted_.report(errno_words(error));
  if ((error != EMFILE && error != ENFILE) || !spare_) {
    spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return false;
  }
  spare_.reset();
  UniqueFd connection(::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const bool accepted = static_cast<bool>(connection);
  if (accepted) {
    context_.counters.update([](ServerCounters& counters) { ++counters.connections_over_limit; });
    const std::string answer =
        format_refusal(0, {RefusalCode::kUnavailable, "the daemon has no file descriptor left; try again later"});
    ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    connection.reset();
  }
  spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return accepted;
}

void Door::admit(UniqueFd connection) {
  const Peer peer = peer_of(connection.get());
  if (!access_.allows(peer)) {
    context_.counters.update([](ServerCounters& counters) { ++counters.connections_forbidden; });
    note_stranger(peer);
    refuse(std::move(connection), forbidden(peer));
    return;
  }
  if (!has_room(connection, peer)) {
    return;
  }
  ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof(kSendBuffer));
  boost::system::error_code error;
  Socket socket(context_.io);
  socket.assign(stream_protocol(), connection.get(), error);
  if (error) {
    exhausted_.report(error.message());
    must_pause_ = true;
    return;
  }
  connection.release();
  shares_.add(peer);
  on_peer_(std::move(socket), peer);
}

bool Door::has_room(UniqueFd& connection, const Peer& peer) {
  if (shares_.has_room_for(peer)) {
    crowded_.clear_when_over();
    return true;
  }
  context_.counters.update([](ServerCounters& counters) { ++counters.connections_over_limit; });
  crowded_.report(crowded_.active() ? std::string() : shares_.largest_holders());
  refuse(std::move(connection), {RefusalCode::kUnavailable, shares_.refusal(peer)});
  return false;
}

// Closing at once could take away what the peer has not read.
void Door::refuse(UniqueFd connection, const Refusal& refusal) {
  const std::string answer = format_refusal(0, refusal);
  ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(connection.get(), SHUT_WR);
  if (!open_ || lingering_.size() >= context_.bounds.lingering) {
    return;
  }
  boost::system::error_code error;
  auto socket = std::make_shared<Socket>(context_.io);
  socket->assign(stream_protocol(), connection.get(), error);
  if (!error) {
    connection.release();
    lingering_.insert(socket);
    asio::co_spawn(context_.io, linger(std::move(socket)), rethrow);
  }
}

asio::awaitable<void> Door::linger(std::shared_ptr<Socket> socket) {
  asio::steady_timer enough(context_.io, context_.bounds.linger);
  enough.async_wait([socket](const boost::system::error_code& cancelled) {
    boost::system::error_code ignored;
    if (!cancelled) {
      socket->close(ignored);
    }
  });
  std::array<char, 1024> thrown_away;
  std::size_t bytes = 0;
  while (socket->is_open() && bytes < kDrained) {
    const auto [error, count] = co_await socket->async_read_some(asio::buffer(thrown_away), kAwait);
    if (error) {
      break;
    }
    bytes += count;
  }
  lingering_.erase(socket);
}

void Door::note_stranger(const Peer& peer) {
  const uid_t uid = peer.uid.value_or(static_cast<uid_t>(-1));
  if (strangers_.size() < kStrangersLogged && strangers_.insert(uid).second) {
    log_warning("a user who may not send events was refused; later attempts are only counted",
                {{"PEER_UID", uid}, {"PEER_PID", peer.pid.value_or(0)}});
  }
}

}  // namespace run_recorder
