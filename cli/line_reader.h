// Lines of a descriptor, read as they come, numbered from 1, bounded in memory however long a line is. A byte order
// mark before the first is left out, as some editors and PowerShell write one. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace run_recorder {

class LineReader {
 public:
  LineReader(int fd, std::size_t max_line_bytes) : fd_(fd), max_line_bytes_(max_line_bytes) {}

  struct Line {
    std::uint64_t number = 0;
    std::string text;       // without its newline
    bool too_long = false;  // text is empty, the line was skipped to its end
  };
  // A whole line that is there already (the last one may lack its newline); empty: read() for more.
  std::optional<Line> next();
  // One read(2); blocks unless poll(2) said there is something, on a non-blocking descriptor for a tenth of a second.
  // An error ends the input too.
  Result<void> read();

  bool ended() const { return ended_ && start_ == buffer_.size() && !skipping_; }
  bool wants_input() const { return !ended_; }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  Line take(std::size_t end, std::size_t newline);

  int fd_;
  std::size_t max_line_bytes_;
  std::string buffer_;
  std::size_t start_ = 0;    // the first byte of buffer_ that no line took
  std::size_t scanned_ = 0;  // no newline between start_ and here
  std::uint64_t number_ = 0;
  std::uint64_t bytes_read_ = 0;
  bool skipping_ = false;  // inside of a line that is too long
  bool ended_ = false;
};

}  // namespace run_recorder
