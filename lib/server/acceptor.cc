#include "server/acceptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "net/coroutine.h"
#include "server/session.h"

namespace run_recorder {
namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;
using std::chrono::steady_clock;

constexpr int kAcceptedAtOnce = 32;                 // before the sessions have their turn
constexpr int kLongestQueue = 4'096;                // of peers that wait to be accepted; net.core.somaxconn as a rule
constexpr std::chrono::milliseconds kBackoff{100};  // when the system cannot give us a connection
constexpr std::size_t kForbiddenLogged = 64;        // distinct users
constexpr std::size_t kDrained = 1 << 20;           // bytes of a refused peer, at most
constexpr int kSendBuffer = 32 << 10;               // of the kernel, for answers that the peer does not read

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

Refusal forbidden(const Peer& peer) {
  return {RefusalCode::kForbidden, fmt::format("user {} may not send events here (allow_users, allow_groups)",
                                               peer.uid ? std::to_string(*peer.uid) : "unknown")};
}

}  // namespace

Acceptor::Acceptor(SessionContext& context, int listen_fd, OnPeer on_peer)
    : context_(context),
      on_peer_(std::move(on_peer)),
      socket_(context.io, stream_protocol(), listen_fd),
      backoff_(context.io),
      spare_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      exhausted_(LogLevel::kError, "out of file descriptors, new connections are refused",
                 "file descriptors are available again"),
      crowded_(LogLevel::kWarning, "too many connections, new ones are refused", "connections are accepted again") {}

void Acceptor::set_rules(AccessList access, std::size_t connections) {
  access_ = std::move(access);
  shares_.set_limit(connections);
  evict_forbidden();
}

void Acceptor::evict_forbidden() {
  std::uint64_t count = 0;
  for (const auto& [number, session] : context_.sessions) {
    const Peer peer = session->ask_peer();
    if (!access_.allows(peer) && session->evict(forbidden(peer))) {
      ++count;
    }
  }
  if (count > 0) {
    context_.counters.update([count](ServerCounters& counters) { counters.connections_forbidden += count; });
    log_warning("closed connections of users who may no longer send", {{"CONNECTIONS", count}});
  }
}

void Acceptor::start() {
  running_ = true;
  asio::co_spawn(context_.io, accept_all(), rethrow);
}

void Acceptor::stop() {
  running_ = false;
  boost::system::error_code ignored;
  socket_.close(ignored);
  backoff_.cancel();
  for (const auto& socket : lingering_) {
    socket->close(ignored);
  }
}

asio::awaitable<void> Acceptor::accept_all() {
  while (running_) {
    const auto [error] = co_await socket_.async_wait(stream_protocol::acceptor::wait_read, kAwait);
    if (!running_) {
      break;
    }
    back_off_ = static_cast<bool>(error);
    for (int count = 0; count < kAcceptedAtOnce && !back_off_ && accept_one(); ++count) {
    }
    if (back_off_) {
      backoff_.expires_after(kBackoff);
      co_await backoff_.async_wait(kAwait);
    }
  }
}

// They come in their order, so whoever waited when this began is among the first so many.
bool Acceptor::accept_waiting() {
  if (!running_) {
    return false;
  }
  back_off_ = false;
  for (int count = 0; count < kLongestQueue && accept_one(); ++count) {
  }
  return !back_off_;
}

bool Acceptor::accept_one() {
  UniqueFd connection(::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (connection) {
    exhausted_.clear_when_over(steady_clock::now());
    admit(std::move(connection));
    return true;
  }
  const int error = errno;
  if (error == EINTR || error == ECONNABORTED) {
    return true;
  }
  if (!would_block(error)) {
    back_off_ = !out_of_descriptors(error);
    return !back_off_;
  }
  return false;
}

// Refuses one peer by means of the spare descriptor. False: that did not work either.
bool Acceptor::out_of_descriptors(int error) {
  exhausted_.report(errno_words(error), steady_clock::now());
  if ((error != EMFILE && error != ENFILE) || !spare_) {
    spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return false;
  }
  spare_.reset();
  UniqueFd connection(::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const bool accepted = static_cast<bool>(connection);
  if (accepted) {
    context_.counters.update([](ServerCounters& counters) { ++counters.connections_over_limit; });
    const std::string answer =
        format_refusal(0, {RefusalCode::kUnavailable, "the daemon is out of file descriptors; try again later"});
    ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    connection.reset();
  }
  spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return accepted;
}

void Acceptor::admit(UniqueFd connection) {
  const Peer peer = peer_of(connection.get());
  if (!access_.allows(peer)) {
    context_.counters.update([](ServerCounters& counters) { ++counters.connections_forbidden; });
    log_forbidden(peer);
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
    exhausted_.report(error.message(), steady_clock::now());
    back_off_ = true;
    return;
  }
  connection.release();
  shares_.add(peer);
  on_peer_(std::move(socket), peer);
}

bool Acceptor::has_room(UniqueFd& connection, const Peer& peer) {
  if (shares_.has_room_for(peer)) {
    crowded_.clear_when_over(steady_clock::now());
    return true;
  }
  context_.counters.update([](ServerCounters& counters) { ++counters.connections_over_limit; });
  crowded_.report(crowded_.active() ? std::string() : shares_.largest_holders(), steady_clock::now());
  refuse(std::move(connection), {RefusalCode::kUnavailable, shares_.refusal(peer)});
  return false;
}

// Closing at once could take away what the peer has not read.
void Acceptor::refuse(UniqueFd connection, const Refusal& refusal) {
  const std::string answer = format_refusal(0, refusal);
  ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(connection.get(), SHUT_WR);
  if (!running_ || lingering_.size() >= context_.bounds.lingering) {
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

asio::awaitable<void> Acceptor::linger(std::shared_ptr<Socket> socket) {
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

void Acceptor::log_forbidden(const Peer& peer) {
  const uid_t uid = peer.uid.value_or(static_cast<uid_t>(-1));
  if (forbidden_logged_.size() < kForbiddenLogged && forbidden_logged_.insert(uid).second) {
    log_warning("a user who may not send events was refused; later attempts are only counted",
                {{"PEER_UID", uid}, {"PEER_PID", peer.pid.value_or(0)}});
  }
}

}  // namespace run_recorder
