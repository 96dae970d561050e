#include "server/session.h"

#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <utility>

#include "net/coroutine.h"
#include "server/spool_writer.h"

namespace run_recorder {
namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;

// When all sessions together hold this much that their peers do not read, each may hold only the second figure.
constexpr std::size_t kUnreadOfAll = 4 << 20;
constexpr std::size_t kUnreadWhenTight = 8 << 10;

}  // namespace

Session::Session(SessionContext& context, Socket socket, std::uint64_t number, const Peer& peer)
    : context_(context),
      socket_(std::move(socket)),
      wake_(context.io),
      connection_(context.connection_prefix + std::to_string(number)),
      number_(number),
      peer_uid_(peer.uid),
      peer_pid_(peer.pid),
      sender_(sender_of(socket_.native_handle(), peer)),
      framer_(context.pool, context.bounds.partial_bytes) {}

void Session::start() {
  asio::co_spawn(context_.io, run(shared_from_this()), rethrow);
}

asio::awaitable<void> Session::run(std::shared_ptr<Session> self) {
  Session& session = *self;
  while (session.reading_) {
    if (!session.may_read()) {
      co_await session.changed();
      continue;
    }
    if (session.rest_.empty() && !session.more_) {
      const auto [error] = co_await session.socket_.async_wait(Socket::wait_read, kAwait);
      if (error && error != asio::error::operation_aborted) {
        session.reading_ = false;
      }
    } else {
      co_await asio::post(session.context_.io, asio::use_awaitable);  // the others' turn
    }
    if (session.may_read()) {  // much may have changed meanwhile
      session.take_turn();
    }
  }
  while (!session.ends_now()) {
    co_await session.changed();
  }
  if (session.eviction_ && !session.closed_ && session.answered()) {
    session.context_.on_evicted(UniqueFd(session.socket_.release()), *session.eviction_);
  }
  session.close();
  session.context_.on_closed(session.number_);
}

asio::awaitable<void> Session::write_rest(std::shared_ptr<Session> self) {
  Session& session = *self;
  while (!session.closed_ && !session.answered()) {
    const auto [error] = co_await session.socket_.async_wait(Socket::wait_write, kAwait);
    if (error && error != asio::error::operation_aborted) {
      break;
    }
    session.flush();
    session.wake();
  }
  session.writing_ = false;
  session.wake();
}

// Of one that reads no more.
bool Session::ends_now() const {
  return closed_ || (in_flight_.empty() && answered()) || (eviction_ && steady_clock::now() >= evict_by_);
}

// Until wake(), or until a peer that owes reading had its time.
asio::awaitable<void> Session::changed() {
  if (reading_ && waits_for_peer()) {
    wake_.expires_at(last_taken_ + context_.bounds.unread_grace);
  } else if (eviction_) {
    wake_.expires_at(evict_by_);
  } else {
    wake_.expires_at(steady_clock::time_point::max());
  }
  co_await wake_.async_wait(kAwait);
}

void Session::wake() {
  wake_.cancel();
}

void Session::stop_reading() {
  reading_ = false;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
  wake();
}

bool Session::evict(Refusal why) {
  if (eviction_ || closed_) {
    return false;
  }
  eviction_ = std::make_unique<const Refusal>(std::move(why));
  evict_by_ = steady_clock::now() + context_.bounds.linger;
  stop_reading();
  return true;
}

Peer Session::ask_peer() {
  return peer_of(socket_.native_handle());
}

void Session::close() {
  if (std::exchange(closed_, true)) {
    return;
  }
  reading_ = false;
  boost::system::error_code ignored;
  socket_.close(ignored);
  rest_ = {};
  framer_.abandon();
  answers_.discard();
  count_unread();
  context_.counters.update([this](ServerCounters& counters) { counters.pool_bytes = context_.pool.used(); });
  context_.wake_pool_waiters();
  wake();
}

bool Session::answered() const {
  return write_closed_ || answers_.all_sent();
}

// Its peer does not take errors as fast as it earns them: a while to catch up, then it goes on until it is closed.
bool Session::waits_for_peer() const {
  return !write_closed_ && answers_.unsent_bytes() > context_.bounds.unread_bytes / 2 &&
         steady_clock::now() < last_taken_ + context_.bounds.unread_grace;
}

void Session::settle(const Submission& submission) {
  in_flight_.erase(in_flight_.begin());
  in_flight_bytes_ -= submission.bytes;
  if (in_flight_.empty()) {
    in_flight_.shrink_to_fit();
  }
  for (const Submission::Refused& refused : submission.refused) {
    if (!write_closed_ && !closed_) {
      answers_.refuse(refused.line, refused.refusal);
    }
  }
  answer();
  const auto taken = steady_clock::now() - submission.received;
  context_.settled(submission.bytes);
  context_.counters.update([&](ServerCounters& counters) {
    counters.waiting_bytes = context_.waiting_bytes;
    count_answer(counters, taken, submission.accepted);
    for (const Submission::Refused& refused : submission.refused) {
      ++counters.refused[static_cast<std::size_t>(refused.refusal.code)];
    }
  });
  wake();
}

void Session::answer() {
  answers_.settle(in_flight_.empty() ? lines_ : in_flight_.front().first_line - 1);
  flush();
}

void Session::flush() {
  while (!closed_ && !write_closed_) {
    const std::string_view bytes = answers_.unsent();
    if (bytes.empty()) {
      break;
    }
    const ssize_t count = ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) {
      answers_.sent(static_cast<std::size_t>(count));
      last_taken_ = steady_clock::now();
    } else if (errno == EAGAIN) {
      if (!std::exchange(writing_, true)) {
        last_taken_ = steady_clock::now();
        asio::co_spawn(context_.io, write_rest(shared_from_this()), rethrow);
      }
      break;
    } else if (errno != EINTR) {
      write_closed_ = true;  // gone, or it reads no more; what it has sent before still counts
      answers_.discard();
    }
  }
  count_unread();
}

void Session::count_unread() {
  const std::size_t unread = closed_ || write_closed_ ? 0 : answers_.unsent_bytes();
  context_.unread_bytes += unread;
  context_.unread_bytes -= std::exchange(unread_bytes_, unread);
  const std::size_t bound = context_.unread_bytes > kUnreadOfAll ? kUnreadWhenTight : context_.bounds.unread_bytes;
  if (unread > bound) {
    context_.counters.update([](ServerCounters& counters) { ++counters.closed_unread; });
    close();
  }
}

}  // namespace run_recorder
