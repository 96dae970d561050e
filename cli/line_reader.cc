#include "cli/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/file.h"

namespace run_recorder {
namespace {

constexpr std::size_t kReadBytes = std::size_t{64} * 1024;
constexpr int kWaitMs = 100;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::Line LineReader::take(std::size_t end, std::size_t newline) {
  Line line;
  line.number = ++number_;
  line.too_long = skipping_ || end - start_ > max_line_bytes_;
  if (!line.too_long) line.text = buffer_.substr(start_, end - start_);
  if (number_ == 1 && line.text.starts_with(kByteOrderMark)) line.text.erase(0, kByteOrderMark.size());
  skipping_ = false;
  start_ = end + newline;
  scanned_ = start_;
  return line;
}

std::optional<LineReader::Line> LineReader::next() {
  const std::size_t end = buffer_.find('\n', scanned_);
  if (end != std::string::npos) return take(end, 1);
  if (ended_) {
    if (start_ == buffer_.size() && !skipping_) return std::nullopt;
    return take(buffer_.size(), 0);
  }
  if (skipping_ || buffer_.size() - start_ > max_line_bytes_) {
    skipping_ = true;
    buffer_.clear();
    start_ = 0;
  }
  scanned_ = buffer_.size();
  return std::nullopt;
}

Result<void> LineReader::read() {
  if (start_ > 0) {
    buffer_.erase(0, start_);
    scanned_ -= std::min(scanned_, start_);
    start_ = 0;
  }
  const std::size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const ssize_t got = ::read(fd_, buffer_.data() + before, kReadBytes);
  const int error = errno;
  buffer_.resize(before + (got > 0 ? static_cast<std::size_t>(got) : 0));
  if (got > 0) bytes_read_ += static_cast<std::uint64_t>(got);
  if (got > 0 || (got < 0 && error == EINTR)) return {};
  if (got < 0 && error == EAGAIN) {
    // Another process made it non-blocking, or took what poll(2) had announced: who reads again must not spin.
    pollfd polled{fd_, POLLIN, 0};
    ::poll(&polled, 1, kWaitMs);
    return {};
  }
  ended_ = true;
  if (got < 0) return system_error_of("read standard input", error);
  return {};
}

}  // namespace run_recorder
