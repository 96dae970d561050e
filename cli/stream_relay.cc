#include "cli/stream_relay.h"

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

// A terminal is opened anew: the flags of the descriptor that we were given are others' too. What is closed takes
// everything, and gives it to nobody. Empty where the stream itself serves, and where this user may not.
UniqueFd open_instead_of(int stream) {
  if (::isatty(stream) != 1) {
    // As open_standard_streams() leaves it.
    const bool closed = stream == STDOUT_FILENO && (::fcntl(stream, F_GETFL) & O_ACCMODE) == O_RDONLY;
    return closed ? UniqueFd(::open("/dev/null", O_WRONLY | O_CLOEXEC)) : UniqueFd();
  }
  const std::string path = "/proc/self/fd/" + std::to_string(stream);
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

RunLog::Stream log_stream_of(int stream) {
  return stream == STDOUT_FILENO ? RunLog::Stream::kOutput : RunLog::Stream::kErrors;
}

}  // namespace

StreamRelay::StreamRelay(int stream)
    : stream_(stream), opened_(open_instead_of(stream)), output_(opened_ ? opened_.get() : stream) {}

void StreamRelay::begin(UniqueFd pipe, std::size_t tail_lines, RunLog* log) {
  pipe_ = std::move(pipe);
  tail_ = StderrTail(tail_lines);
  log_ = log;
  if (std::exchange(failure_, 0) != 0) broken_ = false;
  stalled_ = false;
}

void StreamRelay::complain(std::string_view text) {
  write(complaint(text));
}

void StreamRelay::write(std::string_view text) {
  if (broken_) return;
  waiting_.append(text);
  write_some();
}

int StreamRelay::reading_fd() const {
  return !stalled_ && waiting_.empty() ? pipe_.get() : -1;
}

int StreamRelay::writing_fd() const {
  return stalled_ || !waiting_.empty() ? output_ : -1;
}

// Only what can be written at once is read, so that next to nothing is lost where this process is killed.
void StreamRelay::work() {
  stalled_ = drained_ = false;
  write_some();
  for (int piece = 0; piece < kPiecesAtOnce && pipe_ && waiting_.empty(); ++piece) {
    drained_ = !is_ready(pipe_.get(), POLLIN);
    if (drained_) return;
    stalled_ = !is_ready(output_, POLLOUT);
    if (stalled_ || !read_piece()) return;
    write_some();
  }
}

void StreamRelay::log_unfinished_line() {
  if (log_ != nullptr && drained_) log_->pause(log_stream_of(stream_));
}

std::vector<std::string> StreamRelay::read_last_words() {
  stalled_ = false;
  const std::size_t limit = waiting_.size() + kLastWordsBytes;
  while (waiting_.size() < limit && read_piece()) {
  }
  write_some();
  return tail_.lines();
}

bool StreamRelay::end() {
  log_ = nullptr;
  const bool others_write = static_cast<bool>(pipe_);
  pipe_.reset();
  return others_write;
}

// False: there is nothing now, or nothing will come any more.
bool StreamRelay::read_piece() {
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
  if (log_ != nullptr) log_->write(log_stream_of(stream_), bytes);
  waiting_.append(bytes);
  return true;
}

// A full disk, a terminal that hung up: words on standard error are lost, and the command need not die of it. Where
// nobody reads it any more, or it is standard output, the command learns of it at its next write, as it would without
// us.
void StreamRelay::fail(int error) {
  waiting_.clear();
  if (error != EPIPE && stream_ == STDERR_FILENO) return;
  if (error != EPIPE) failure_ = error;
  broken_ = true;
  pipe_.reset();
}

void StreamRelay::write_some() {
  std::size_t written = 0;
  while (written < waiting_.size() && is_ready(output_, POLLOUT)) {
    const ssize_t wrote =
        ::write(output_, waiting_.data() + written, std::min(kPieceBytes, waiting_.size() - written));
    if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) break;
    if (wrote < 0) {
      fail(errno);
      return;
    }
    written += static_cast<std::size_t>(wrote);
  }
  waiting_.erase(0, written);
}

}  // namespace run_recorder
