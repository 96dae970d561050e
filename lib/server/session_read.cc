// The half of a session that reads: bytes to lines, lines to events, events to the writer.
#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <utility>
#include <variant>

#include "server/session.h"
#include "server/spool_writer.h"

namespace run_recorder {
namespace {

using std::chrono::steady_clock;

// Errors that wait for an earlier line to be settled; past it the session reads on when that has happened.
constexpr std::size_t kHeld = 8 << 10;

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

// False when there are so many errors that they should be sent before more is looked at.
bool Session::refuse(const Refusal& refusal) {
  context_.counters.update(
      [&refusal](ServerCounters& counters) { ++counters.refused[static_cast<std::size_t>(refusal.code)]; });
  if (write_closed_ || closed_) {
    return true;
  }
  answers_.refuse(lines_, refusal);
  return answers_.held_bytes() <= kHeld;
}

}  // namespace run_recorder
