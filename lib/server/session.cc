#include "server/session.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <exception>
#include <utility>
#include <variant>

namespace run_recorder {
namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// When all sessions together hold this much that their peers do not read, each may hold only the second figure.
constexpr std::size_t kUnreadOfAll = 4 << 20;
constexpr std::size_t kUnreadWhenTight = 8 << 10;
// Errors that wait for an earlier line to be settled; past it the session reads on when that has happened.
constexpr std::size_t kHeld = 8 << 10;

// A coroutine that throws is a broken invariant: let it end the process.
void rethrow(const std::exception_ptr& exception) {
  if (exception) {
    std::rethrow_exception(exception);
  }
}

std::size_t size_of(const std::optional<std::string>& text) {
  return text ? text->capacity() : 0;
}

// Roughly what an event takes in memory.
std::size_t size_of(const Event& event) {
  return sizeof(Event) + event.type.capacity() + event.run_id.capacity() + size_of(event.id) +
         size_of(event.council) + size_of(event.input) + size_of(event.parent_attempt_run_id) +
         size_of(event.result) + size_of(event.errors) + event.payload.capacity() + event.worker_process.capacity() +
         event.sender_process.capacity() + event.connection.capacity();
}

}  // namespace

SessionContext::SessionContext(const ServerBounds& the_bounds, WallClock the_clock, Counters& the_counters)
    : bounds(the_bounds),
      clock(std::move(the_clock)),
      counters(the_counters),
      pool(the_bounds.pool_bytes),
      read_buffer(std::make_unique<char[]>(the_bounds.turn_bytes)),
      stall_timer_(io) {}

void SessionContext::wait_for_writer(std::shared_ptr<Session> session) {
  if (std::find(writer_waiters_.begin(), writer_waiters_.end(), session) == writer_waiters_.end()) {
    writer_waiters_.push_back(std::move(session));
  }
}

void SessionContext::wait_for_pool(std::shared_ptr<Session> session) {
  if (std::find(pool_waiters_.begin(), pool_waiters_.end(), session) == pool_waiters_.end()) {
    pool_waiters_.push_back(std::move(session));
  }
}

// Not at once: else a thousand sessions would be woken for each group that is settled, most of them in vain.
void SessionContext::settled(std::size_t bytes) {
  waiting_bytes -= bytes;
  if (waiting_bytes <= bounds.waiting_bytes / 4) {
    for (const auto& session : std::exchange(writer_waiters_, {})) {
      session->wake();
    }
  }
}

void SessionContext::wake_pool_waiters() {
  if (releases_seen_ == pool.releases()) {
    return;
  }
  releases_seen_ = pool.releases();
  for (const auto& session : std::exchange(pool_waiters_, {})) {
    session->wake();
  }
}

void SessionContext::wake_all() {
  for (const auto& [number, session] : sessions) {
    session->wake();
  }
}

void SessionContext::watch_stalls() {
  if (std::exchange(watching_stalls_, true)) {
    return;
  }
  stall_timer_.expires_after(bounds.stall / 5);
  stall_timer_.async_wait([this](const boost::system::error_code& error) {
    watching_stalls_ = false;
    if (!error && check_stalls()) {
      watch_stalls();
    }
  });
}

void SessionContext::stop_watching() {
  stall_timer_.cancel();
}

// Those whose peer is silent first: what they give back lets the others go on, so these are spared until the next
// look.
bool SessionContext::check_stalls() {
  const auto limit = steady_clock::now() - bounds.stall;
  bool watching = false;
  std::vector<std::shared_ptr<Session>> silent;
  std::vector<std::shared_ptr<Session>> waiting;
  for (const auto& [number, session] : sessions) {
    if (session->holds_share() || session->waits_for_pool()) {
      watching = true;
      if (session->last_progress() <= limit) {
        (session->waits_for_pool() ? waiting : silent).push_back(session);
      }
    }
  }
  for (const auto& session : silent.empty() ? waiting : silent) {
    session->refuse_stalled();
  }
  wake_pool_waiters();
  return watching;
}

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
  if (session.sent_away_ && !session.closed_ && session.answered()) {
    session.context_.on_sent_away(UniqueFd(session.socket_.release()), *session.sent_away_);
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
  return closed_ || (in_flight_.empty() && answered()) || (sent_away_ && steady_clock::now() >= leave_by_);
}

// Until wake(), or until a peer that owes reading had its time.
asio::awaitable<void> Session::changed() {
  if (reading_ && waits_for_peer()) {
    wake_.expires_at(last_taken_ + context_.bounds.unread_grace);
  } else if (sent_away_) {
    wake_.expires_at(leave_by_);
  } else {
    wake_.expires_at(steady_clock::time_point::max());
  }
  co_await wake_.async_wait(kAwait);
}

void Session::wake() {
  wake_.cancel();
}

bool Session::answered() const {
  return deaf_ || answers_.all_sent();
}

// Its peer does not take errors as fast as it earns them: a while to catch up, then it goes on until it is closed.
bool Session::waits_for_peer() const {
  return !deaf_ && answers_.unsent_bytes() > context_.bounds.unread_bytes / 2 &&
         steady_clock::now() < last_taken_ + context_.bounds.unread_grace;
}

// False: whatever it waits for will wake it.
bool Session::may_read() {
  if (!reading_ || answers_.held_bytes() > kHeld || in_flight_bytes_ >= context_.bounds.session_waiting_bytes ||
      waits_for_peer()) {
    return false;
  }
  // Those that have nothing on its way to the disk come first.
  const std::size_t bound = in_flight_.empty() ? context_.bounds.waiting_bytes : context_.bounds.waiting_bytes / 2;
  if (context_.waiting_bytes >= bound) {
    context_.wait_for_writer(shared_from_this());
    return false;
  }
  waits_for_pool_ = rest_.empty() && framer_.room(context_.limits.line_bytes, context_.bounds.turn_bytes) == 0;
  if (waits_for_pool_) {
    context_.wait_for_pool(shared_from_this());
    context_.watch_stalls();
    return false;
  }
  return true;
}

void Session::take_turn() {
  const std::string kept = std::exchange(rest_, {});
  const std::string_view bytes = kept.empty() ? receive() : std::string_view(kept);
  if (bytes.empty()) {
    return;
  }
  received_at_ = context_.clock();
  last_progress_ = steady_clock::now();
  const std::size_t used = framer_.feed(bytes, context_.limits.line_bytes, *this);
  rest_ = bytes.substr(used);
  hand_over();
  if (framer_.holds_share()) {
    context_.watch_stalls();
  }
  context_.wake_pool_waiters();
}

// What the socket has, at most a turn's worth; empty when that is nothing. At the end of input it settles the last
// line.
std::string_view Session::receive() {
  char* const buffer = context_.read_buffer.get();
  const std::size_t room = framer_.room(context_.limits.line_bytes, context_.bounds.turn_bytes);
  const ssize_t count = ::recv(socket_.native_handle(), buffer, room, MSG_DONTWAIT);
  if (count > 0) {
    more_ = static_cast<std::size_t>(count) == room;
    bytes_read_ += static_cast<std::uint64_t>(count);
    return {buffer, static_cast<std::size_t>(count)};
  }
  more_ = false;
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
    return {};
  }
  reading_ = false;  // the peer has closed its end, in one way or another
  received_at_ = context_.clock();
  last_progress_ = steady_clock::now();
  framer_.end(*this);
  hand_over();
  context_.wake_pool_waiters();
  return {};
}

bool Session::line(std::string_view text) {
  ++lines_;
  auto decoded = decode_event(text, context_.limits.depth);
  if (const auto* refusal = std::get_if<Refusal>(&decoded)) {
    return refuse(*refusal);
  }
  if (auto* event = std::get_if<Event>(&decoded)) {
    accept(std::move(*event), text);
  }
  return true;
}

bool Session::too_large() {
  ++lines_;
  return refuse({RefusalCode::kTooLarge,
                 fmt::format("the line has more than {} bytes, the most that is taken", context_.limits.line_bytes)});
}

bool Session::no_room() {
  ++lines_;
  return refuse(
      {RefusalCode::kUnavailable, "too many long lines are being received at once; send this line again later"});
}

void Session::refuse_stalled() {
  const bool waited = std::exchange(waits_for_pool_, false);
  framer_.abandon();
  ++lines_;
  refuse({RefusalCode::kUnavailable,
          waited ? "too many long lines are being received at once; send this line again later"
                 : "the rest of this long line did not come; send it again"});
  hand_over();
  wake();
}

void Session::accept(Event event, std::string_view text) {
  if (!context_.limits.filter.keeps(event)) {
    context_.counters.update([&event](ServerCounters& counters) { count_excluded(counters, event.type); });
    return;
  }
  event.received_at = received_at_;
  event.peer_uid = peer_uid_;
  event.peer_pid = peer_pid_;
  event.sender_process = sender_.identity;
  event.connection = connection_;
  if (event.worker_pid && peer_pid_) {
    event.worker_process = context_.identities.identify_in_namespace_of(sender_, *event.worker_pid);
  }
  if (!draft_) {
    draft_ = std::make_unique<Submission>();
  }
  Submission::Item& item = draft_->items.emplace_back();
  item.line = lines_;
  item.body = encode_envelope({event.received_at, event.peer_uid, event.peer_pid, event.worker_process,
                               event.sender_process, event.connection, text});
  item.bytes = sizeof(item) + item.body.capacity() + size_of(event);
  item.event = std::move(event);
  draft_->bytes += item.bytes;
}

// What this turn brought goes to the writer, and what is settled without it is answered.
void Session::hand_over() {
  if (draft_) {
    draft_->session = shared_from_this();
    draft_->source = number_;
    draft_->received = last_progress_;
    in_flight_.push_back({draft_->items.front().line, draft_->bytes});
    in_flight_bytes_ += draft_->bytes;
    context_.waiting_bytes += draft_->bytes;
    context_.writer->submit(std::move(draft_));
  }
  const std::uint64_t fresh = lines_ - std::exchange(counted_lines_, lines_);
  if (fresh > 0 || framer_.holds_share()) {
    context_.counters.update([this, fresh](ServerCounters& counters) {
      counters.lines += fresh;
      counters.waiting_bytes = context_.waiting_bytes;
      counters.pool_bytes = context_.pool.used();
    });
  }
  answer();
}

void Session::settle(const Submission& submission) {
  in_flight_.erase(in_flight_.begin());
  in_flight_bytes_ -= submission.bytes;
  if (in_flight_.empty()) {
    in_flight_.shrink_to_fit();
  }
  for (const Submission::Refused& refused : submission.refused) {
    if (!deaf_ && !closed_) {
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

// False when there are so many errors that they should be sent before more is looked at.
bool Session::refuse(const Refusal& refusal) {
  context_.counters.update(
      [&refusal](ServerCounters& counters) { ++counters.refused[static_cast<std::size_t>(refusal.code)]; });
  if (deaf_ || closed_) {
    return true;
  }
  answers_.refuse(lines_, refusal);
  return answers_.held_bytes() <= kHeld;
}

void Session::answer() {
  answers_.settle(in_flight_.empty() ? lines_ : in_flight_.front().first_line - 1);
  flush();
}

void Session::flush() {
  while (!closed_ && !deaf_) {
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
      deaf_ = true;  // gone, or it reads no more; what it has sent before still counts
      answers_.discard();
    }
  }
  count_unread();
}

void Session::count_unread() {
  const std::size_t unread = closed_ || deaf_ ? 0 : answers_.unsent_bytes();
  context_.unread_bytes += unread;
  context_.unread_bytes -= std::exchange(unread_bytes_, unread);
  const std::size_t bound = context_.unread_bytes > kUnreadOfAll ? kUnreadWhenTight : context_.bounds.unread_bytes;
  if (unread > bound) {
    context_.counters.update([](ServerCounters& counters) { ++counters.closed_unread; });
    close();
  }
}

void Session::stop_reading() {
  reading_ = false;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
  wake();
}

bool Session::send_away(Refusal why) {
  if (sent_away_ || closed_) {
    return false;
  }
  sent_away_ = std::make_unique<const Refusal>(std::move(why));
  leave_by_ = steady_clock::now() + context_.bounds.linger;
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

}  // namespace run_recorder
