#include "cli/stderr_tail.h"

#include <algorithm>

#include "base/utf8.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::string_view kCutMark = "…";

std::string readable(std::string_view line) {
  std::string text = replace_invalid_utf8(line);
  std::erase(text, '\0');
  return text;
}

}  // namespace

void StderrTail::append(std::string_view bytes) {
  if (bytes.empty()) return;
  if (returned_) {
    line_.clear();
    cut_ = false;
    returned_ = false;
  }
  const std::size_t room = kMaxLineBytes - line_.size();
  line_.append(bytes.substr(0, room));
  cut_ = cut_ || bytes.size() > room;
}

void StderrTail::finish_line() {
  // Not inside of a character.
  if (cut_) {
    while (!line_.empty() && (static_cast<unsigned char>(line_.back()) & 0xC0) == 0x80) line_.pop_back();
    if (!line_.empty() && static_cast<unsigned char>(line_.back()) >= 0xC0) line_.pop_back();
    line_ += kCutMark;
  }
  bytes_ += line_.size();
  lines_.push_back(std::move(line_));
  line_.clear();
  cut_ = false;
  returned_ = false;
  while (lines_.size() > max_lines_ || bytes_ > kMaxBytes) {
    bytes_ -= lines_.front().size();
    lines_.pop_front();
  }
}

void StderrTail::feed(std::string_view bytes) {
  if (max_lines_ == 0) return;
  while (!bytes.empty()) {
    const std::size_t end = std::min(bytes.find_first_of("\r\n"), bytes.size());
    append(bytes.substr(0, end));
    if (end == bytes.size()) return;
    if (bytes[end] == '\n') {
      finish_line();
    } else {
      returned_ = true;
    }
    bytes.remove_prefix(end + 1);
  }
}

std::vector<std::string> StderrTail::lines() const {
  StderrTail whole = *this;
  if (!whole.line_.empty()) whole.finish_line();
  std::vector<std::string> all;
  for (const std::string& line : whole.lines_) all.push_back(readable(line));
  return all;
}

}  // namespace run_recorder
