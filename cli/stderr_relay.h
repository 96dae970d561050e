// Carries a command's standard error on to ours, and remembers its end. Never blocks, so that signals get through
// while whoever reads our standard error does not. One thread.
#pragma once

#include <string>

#include "base/file.h"
#include "cli/stderr_tail.h"

namespace run_recorder {

class StderrRelay {
 public:
  StderrRelay(UniqueFd pipe, std::size_t tail_lines) : pipe_(std::move(pipe)), tail_(tail_lines) {}

  // For poll(2): the pipe to read and the descriptor to write; -1 for what is not waited for.
  int reading_fd() const;
  int writing_fd() const;
  // Moves what can be moved now.
  void work();

  // The command has ended: reads its last words, which are still in the pipe, and nothing after them.
  void read_last_words();
  // All that was read is written.
  bool written() const { return waiting_.empty(); }
  // Processes that the command left behind may still write, and our standard error may be stalled: a process of ours
  // in the background carries that on, so that they do not die of a closed pipe and the caller does not wait for
  // them.
  void hand_over();

  const StderrTail& tail() const { return tail_; }

 private:
  void read_some(std::size_t waiting_limit);
  void write_some();

  UniqueFd pipe_;
  StderrTail tail_;
  std::string waiting_;  // read, not written yet
  bool ended_ = false;   // the last words were read
};

}  // namespace run_recorder
