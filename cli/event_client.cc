#include "cli/event_client.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/socket_path.h"
#include "cli/json_object.h"

namespace run_recorder {
namespace {

constexpr std::size_t kOutputBytes = std::size_t{256} * 1024;
constexpr std::size_t kAnswerBytes = std::size_t{1} << 20;
constexpr std::size_t kAnswerDepth = 16;
constexpr std::chrono::milliseconds kFirstPause{50};

std::string words_for_connect(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return fmt::format("the daemon is away: there is no socket at {}", path);
    case ECONNREFUSED:
      return fmt::format("the daemon is away: nobody listens on {}", path);
    case EACCES:
    case EPERM:
      return fmt::format("this user may not send events: {} is closed to it (the socket's group may)", path);
    case EAGAIN:
      return fmt::format("the daemon does not take connections on {} now", path);
    default:
      return fmt::format("connect to {}: {}", path, errno_words(error));
  }
}

}  // namespace

std::string to_string(const EventRefusal& refusal) {
  return refusal.code + ": " + refusal.message;
}

bool worth_resending(const EventRefusal& refusal) {
  return refusal.code == "spool_full" || refusal.code == "unavailable";
}

void EventClient::add(std::uint64_t tag, std::string line) {
  waiting_bytes_ += line.size();
  window_.push_back({tag, std::move(line), std::nullopt, std::nullopt});
}

void EventClient::Entry::sent_again() {
  if (refusal) last_refusal = std::exchange(refusal, std::nullopt);
}

std::vector<EventClient::Waiting> EventClient::waiting() const {
  std::vector<Waiting> all;
  for (const auto* queue : {&again_, &window_}) {
    for (const Entry& entry : *queue) {
      all.push_back({entry.tag, entry.line, entry.refusal ? entry.refusal : entry.last_refusal});
    }
  }
  return all;
}

short EventClient::interest() const {
  return static_cast<short>(written_ < output_.size() ? POLLIN | POLLOUT : POLLIN);
}

std::optional<EventClient::Clock::time_point> EventClient::wake_at() const {
  if (waiting_lines() == 0 || forbidden_) return std::nullopt;
  if (!connected()) return not_before_.value_or(Clock::time_point::min());
  if (!again_.empty())
    return sent_ > 0 ? std::nullopt : std::optional(not_before_.value_or(Clock::time_point::min()));
  // Lines that were added since the last work().
  const bool to_send = sent_ < window_.size() && output_.size() == written_;
  return to_send ? std::optional(not_before_.value_or(Clock::time_point::min())) : std::nullopt;
}

void EventClient::hurry(std::chrono::milliseconds longest_pause) {
  options_.longest_pause = longest_pause;
  pause_ = std::chrono::milliseconds(0);
  not_before_.reset();
}

void EventClient::pause(Clock::time_point now) {
  pause_ = std::min(std::max(kFirstPause, pause_ * 2), options_.longest_pause);
  not_before_ = now + pause_;
}

void EventClient::connect(Clock::time_point now) {
  const auto address = socket_address(options_.path);
  if (!address) {
    problem_ = fmt::format("the path of the socket is longer than {} bytes: {}", kMaxSocketPathBytes, options_.path);
    pause(now);
    return;
  }
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    const int error = errno;
    problem_ = words_for_connect(options_.path, error);
    forbidden_ = error == EACCES || error == EPERM;
    away_ = error == ENOENT || error == ENOTDIR || error == ECONNREFUSED;
    pause(now);
    return;
  }
  fd_ = std::move(fd);
  not_before_.reset();
  problem_.clear();
  away_ = false;
}

// What was on its way is sent again over the next connection.
void EventClient::disconnect(Clock::time_point now, std::string problem) {
  fd_.reset();
  problem_ = std::move(problem);
  for (auto entry = again_.rbegin(); entry != again_.rend(); ++entry) window_.push_front(std::move(*entry));
  again_.clear();
  for (Entry& entry : window_) entry.sent_again();
  sent_ = 0;
  first_line_ = 1;
  output_.clear();
  written_ = 0;
  input_.clear();
  pause(now);
}

// While refused lines wait for another try nothing newer overtakes them.
void EventClient::fill_output() {
  if (!again_.empty()) return;
  output_.erase(0, written_);
  written_ = 0;
  while (sent_ < window_.size() && output_.size() < kOutputBytes) {
    output_.append(window_[sent_].line).append("\n");
    ++sent_;
  }
}

bool EventClient::write_some() {
  while (written_ < output_.size()) {
    const ssize_t sent = ::send(fd_.get(), output_.data() + written_, output_.size() - written_, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    written_ += static_cast<std::size_t>(sent);
  }
  return true;
}

void EventClient::settle_through(std::uint64_t line, std::vector<Settled>& settled) {
  while (sent_ > 0 && first_line_ <= line) {
    Entry entry = std::move(window_.front());
    window_.pop_front();
    --sent_;
    ++first_line_;
    if (entry.refusal && options_.retry_refused && worth_resending(*entry.refusal)) {
      again_.push_back(std::move(entry));
      continue;
    }
    waiting_bytes_ -= entry.line.size();
    settled.push_back({entry.tag, std::move(entry.refusal)});
    pause_ = std::chrono::milliseconds(0);
  }
}

// False: this is no answer of our protocol, or the peer has refused the connection.
bool EventClient::take_answer(std::string_view answer, std::vector<Settled>& settled) {
  if (scan_json(answer, kAnswerDepth).problem != JsonProblem::kNone) {
    problem_ = fmt::format("what answers on {} is not run-recorderd", options_.path);
    return false;
  }
  const JsonObject object(answer);
  if (const auto acked = object.integer("acked"); acked && *acked >= 0) {
    settle_through(static_cast<std::uint64_t>(*acked), settled);
    return true;
  }
  const JsonObject error = object.object("error");
  const auto line = error.integer("line");
  if (!line || *line < 0) return true;  // an answer of a later daemon
  EventRefusal refusal{error.text("code"), error.text("message")};
  if (*line == 0) {
    forbidden_ = !worth_resending(refusal);
    problem_ = "the daemon refused the connection: " + to_string(refusal);
    return false;
  }
  const auto number = static_cast<std::uint64_t>(*line);
  if (number >= first_line_ && number - first_line_ < sent_) {
    window_[static_cast<std::size_t>(number - first_line_)].refusal = std::move(refusal);
  }
  return true;
}

// False: the connection is of no more use; problem_ says why where the peer told.
bool EventClient::read_some(std::vector<Settled>& settled) {
  char buffer[16 * 1024];
  while (true) {
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    input_.append(buffer, static_cast<std::size_t>(got));
    std::size_t start = 0;
    for (std::size_t end = input_.find('\n'); end != std::string::npos; end = input_.find('\n', start)) {
      if (!take_answer(std::string_view(input_).substr(start, end - start), settled)) return false;
      start = end + 1;
    }
    input_.erase(0, start);
    if (input_.size() > kAnswerBytes) return false;
  }
}

// Once all that was on its way is settled, what was refused for now is tried again after a pause, in its old order.
void EventClient::resume_refused(Clock::time_point now) {
  if (again_.empty() || sent_ > 0) return;
  if (!not_before_) {
    problem_ = to_string(*again_.front().refusal);
    pause(now);
    return;
  }
  if (now < *not_before_) return;
  for (auto entry = again_.rbegin(); entry != again_.rend(); ++entry) {
    entry->sent_again();
    window_.push_front(std::move(*entry));
  }
  again_.clear();
  not_before_.reset();
  problem_.clear();
}

std::vector<EventClient::Settled> EventClient::work(Clock::time_point now) {
  std::vector<Settled> settled;
  if (!connected()) {
    if (waiting_lines() == 0 || forbidden_ || (not_before_ && now < *not_before_)) return settled;
    connect(now);
    if (!connected()) return settled;
  }
  resume_refused(now);
  bool writable = true;
  if (sent_ < window_.size() || written_ < output_.size()) {
    if (output_.size() - written_ < kOutputBytes) fill_output();
    writable = write_some();
  }
  // Also after a failed write: the peer may have said why before it closed.
  const bool readable = read_some(settled);
  if (!writable || !readable) {
    disconnect(now, problem_.empty() ? fmt::format("the connection to {} broke", options_.path) : problem_);
  } else {
    resume_refused(now);
  }
  return settled;
}

}  // namespace run_recorder
