// The answers of one connection on their way out: in line order, acknowledgements merged into one number, every error
// before the first acknowledgement that covers its line. It knows no sockets. Not synchronised: for the sessions'
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/protocol.h"

namespace run_recorder {

class Answers {
 public:
  // Held back until its line is settled with all lines before it.
  void refuse(std::uint64_t line, const Refusal& refusal);
  // Every line up to this one is accepted or refused; never goes back.
  void settle(std::uint64_t line);

  // The next bytes to send; empty: all was sent. Valid until the next call of another member.
  std::string_view unsent();
  // The first `bytes` of unsent() are with the kernel.
  void sent(std::size_t bytes);
  // Nobody will read them.
  void discard();

  bool all_sent() const { return begin_ == out_.size() && acked_ == settled_; }
  // Errors that wait for the peer, and for earlier lines.
  std::size_t unsent_bytes() const { return out_.size() - begin_; }
  std::size_t held_bytes() const { return held_bytes_; }

 private:
  struct Held {
    std::uint64_t line;
    std::string text;
  };
  std::vector<Held> held_;  // by line
  std::size_t held_bytes_ = 0;
  std::string out_;  // sent up to begin_
  std::size_t begin_ = 0;
  std::uint64_t settled_ = 0;
  std::uint64_t acked_ = 0;  // the latest acknowledgement put into out_
  std::size_t ack_end_ = 0;  // behind it in out_, while it is there; a newer one waits as a number until it has left
};

}  // namespace run_recorder
