#include "cli/stderr_relay.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "cli/terminal.h"

namespace run_recorder {
namespace {

// What a pipe can hold at most by default; leftovers of the command may write for ever.
constexpr std::size_t kLastWordsBytes = std::size_t{1} << 20;
// After poll(2) a pipe takes as much without blocking.
constexpr std::size_t kPieceBytes = 4'096;
// Then signals and the daemon have their turn.
constexpr int kPiecesAtOnce = 16;

bool is_ready(int fd, short events) {
  pollfd polled{fd, events, 0};
  return ::poll(&polled, 1, 0) > 0;
}

// Opened anew: the flags of the descriptor that we were given are others' too. Empty where this user may not.
UniqueFd open_terminal() {
  if (::isatty(STDERR_FILENO) != 1) return UniqueFd();
  return UniqueFd(::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

}  // namespace

StderrRelay::StderrRelay() : terminal_(open_terminal()), output_(terminal_ ? terminal_.get() : STDERR_FILENO) {}

void StderrRelay::begin(UniqueFd pipe, std::size_t tail_lines) {
  pipe_ = std::move(pipe);
  tail_ = StderrTail(tail_lines);
  stalled_ = false;
}

void StderrRelay::complain(std::string_view text) {
  write(complaint(text));
}

void StderrRelay::write(std::string_view text) {
  if (broken_) return;
  waiting_.append(text);
  write_some();
}

int StderrRelay::reading_fd() const {
  return !stalled_ && waiting_.empty() ? pipe_.get() : -1;
}

int StderrRelay::writing_fd() const {
  return stalled_ || !waiting_.empty() ? output_ : -1;
}

// Only what can be written at once is read, so that next to nothing is lost where this process is killed.
void StderrRelay::work() {
  stalled_ = false;
  write_some();
  for (int piece = 0; piece < kPiecesAtOnce && pipe_ && waiting_.empty(); ++piece) {
    if (!is_ready(pipe_.get(), POLLIN)) return;
    stalled_ = !is_ready(output_, POLLOUT);
    if (stalled_ || !read_piece()) return;
    write_some();
  }
}

std::vector<std::string> StderrRelay::read_last_words() {
  stalled_ = false;
  const std::size_t limit = waiting_.size() + kLastWordsBytes;
  while (waiting_.size() < limit && read_piece()) {
  }
  write_some();
  return tail_.lines();
}

bool StderrRelay::end() {
  const bool others_write = static_cast<bool>(pipe_);
  pipe_.reset();
  return others_write;
}

// False: there is nothing now, or nothing will come any more.
bool StderrRelay::read_piece() {
  if (!pipe_) return false;
  char buffer[kPieceBytes];
  const ssize_t got = ::read(pipe_.get(), buffer, sizeof(buffer));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    pipe_.reset();
    return false;
  }
  const std::string_view bytes(buffer, static_cast<std::size_t>(got));
  tail_.feed(bytes);
  waiting_.append(bytes);
  return true;
}

void StderrRelay::write_some() {
  std::size_t written = 0;
  while (written < waiting_.size() && is_ready(output_, POLLOUT)) {
    const ssize_t wrote =
        ::write(output_, waiting_.data() + written, std::min(kPieceBytes, waiting_.size() - written));
    if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) break;
    if (wrote < 0 && errno == EPIPE) {
      // Nobody reads it any more: the command learns that at its next write, as it would without us.
      broken_ = true;
      pipe_.reset();
    }
    if (wrote < 0) {
      // A full disk, a terminal that hung up: these words are lost, and the command need not die of it.
      waiting_.clear();
      return;
    }
    written += static_cast<std::size_t>(wrote);
  }
  waiting_.erase(0, written);
}

}  // namespace run_recorder
