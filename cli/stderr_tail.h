// The last words of a command: the last lines of what it wrote to standard error, in bounded memory however much that
// is. Pure.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace run_recorder {

class StderrTail {
 public:
  explicit StderrTail(std::size_t max_lines) : max_lines_(max_lines) {}

  void feed(std::string_view bytes);
  // As UTF-8: other bytes are U+FFFD, NUL is left out, what is too long ends in "…". A last line without newline
  // counts.
  std::vector<std::string> lines() const;

  static constexpr std::size_t kMaxLineBytes = 1'000;
  static constexpr std::size_t kMaxBytes = std::size_t{32} * 1024;  // of all lines; the oldest give way

 private:
  void finish_line();
  void append(std::string_view bytes);

  std::size_t max_lines_;
  std::deque<std::string> lines_;
  std::size_t bytes_ = 0;
  std::string line_;       // the one being written
  bool cut_ = false;       // line_ had more
  bool returned_ = false;  // the last byte was a carriage return: what follows overwrites the line, as on a terminal
};

}  // namespace run_recorder
