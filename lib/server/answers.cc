#include "server/answers.h"

#include <algorithm>

namespace run_recorder {

void Answers::refuse(std::uint64_t line, const Refusal& refusal) {
  auto place = std::upper_bound(held_.begin(), held_.end(), line,
                                [](std::uint64_t wanted, const Held& held) { return wanted < held.line; });
  place = held_.insert(place, Held{line, format_refusal(line, refusal)});
  held_bytes_ += place->text.size();
}

void Answers::settle(std::uint64_t line) {
  settled_ = std::max(settled_, line);
  auto end = held_.begin();
  for (; end != held_.end() && end->line <= settled_; ++end) {
    out_ += end->text;
    held_bytes_ -= end->text.size();
  }
  held_.erase(held_.begin(), end);
  if (held_.empty()) {
    held_.shrink_to_fit();
  }
}

std::string_view Answers::unsent() {
  if (acked_ < settled_ && ack_end_ == 0) {
    out_ += format_ack(settled_);
    acked_ = settled_;
    ack_end_ = out_.size();
  }
  return std::string_view(out_).substr(begin_);
}

void Answers::sent(std::size_t bytes) {
  begin_ += bytes;
  if (begin_ >= ack_end_) {
    ack_end_ = 0;
  }
  if (begin_ == out_.size()) {
    constexpr std::size_t kKept = 64;  // an idle connection keeps no memory for answers
    out_.clear();
    if (out_.capacity() > kKept) {
      out_ = std::string();
    }
    begin_ = 0;
  } else if (begin_ > out_.size() / 2) {
    out_.erase(0, begin_);
    ack_end_ -= std::min(ack_end_, begin_);
    begin_ = 0;
  }
}

void Answers::discard() {
  held_ = {};
  held_bytes_ = 0;
  out_ = std::string();
  begin_ = 0;
  acked_ = settled_;
  ack_end_ = 0;
}

}  // namespace run_recorder
