#include "cli/stderr_relay.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace run_recorder {
namespace {

constexpr std::size_t kWaitingBytes = std::size_t{64} * 1024;
// What a pipe can hold at most by default; leftovers of the command may write for ever.
constexpr std::size_t kLastWordsBytes = std::size_t{1} << 20;
// After poll(2) a pipe takes as much without blocking.
constexpr std::size_t kPieceBytes = 4'096;

bool is_writable(int fd) {
  pollfd polled{fd, POLLOUT, 0};
  return ::poll(&polled, 1, 0) > 0;
}

}  // namespace

int StderrRelay::reading_fd() const {
  return !ended_ && waiting_.size() < kWaitingBytes ? pipe_.get() : -1;
}

int StderrRelay::writing_fd() const {
  return waiting_.empty() ? -1 : STDERR_FILENO;
}

void StderrRelay::work() {
  if (!ended_) read_some(kWaitingBytes);
  write_some();
}

void StderrRelay::read_last_words() {
  read_some(waiting_.size() + kLastWordsBytes);
  ended_ = true;
  write_some();
}

void StderrRelay::read_some(std::size_t waiting_limit) {
  char buffer[16 * 1024];
  while (pipe_ && waiting_.size() < waiting_limit) {
    const ssize_t got = ::read(pipe_.get(), buffer, sizeof(buffer));
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      pipe_.reset();
      return;
    }
    const std::string_view bytes(buffer, static_cast<std::size_t>(got));
    tail_.feed(bytes);
    waiting_.append(bytes);
  }
}

void StderrRelay::write_some() {
  std::size_t written = 0;
  while (written < waiting_.size() && is_writable(STDERR_FILENO)) {
    const ssize_t wrote =
        ::write(STDERR_FILENO, waiting_.data() + written, std::min(kPieceBytes, waiting_.size() - written));
    if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) break;
    if (wrote < 0) {
      // Nobody reads it any more: the command learns that at its next write, as it would without us.
      waiting_.clear();
      pipe_.reset();
      return;
    }
    written += static_cast<std::size_t>(wrote);
  }
  waiting_.erase(0, written);
}

void StderrRelay::hand_over() {
  if (!pipe_ && waiting_.empty()) return;
  if (::fork() != 0) {
    pipe_.reset();
    return;
  }
  // Whoever waits for the end of our standard output, or of our connection to the daemon, shall not wait for this
  // process.
  const int null = ::open("/dev/null", O_RDWR);
  if (pipe_) ::fcntl(pipe_.get(), F_SETFL, 0);
  ::dup2(pipe_ ? pipe_.get() : null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (!write_all(STDERR_FILENO, waiting_)) ::_exit(0);
  char buffer[16 * 1024];
  while (true) {
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) ::_exit(0);
    if (!write_all(STDERR_FILENO, std::string_view(buffer, static_cast<std::size_t>(got)))) ::_exit(0);
  }
}

}  // namespace run_recorder
