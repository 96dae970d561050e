// What `exec` and `emit` write to their standard error: exec also what its command writes there, whose end it
// remembers, and its own words in between. Never blocks, so that signals get through and events are sent while
// whoever reads our standard error, a pager or a stopped terminal, does not. Little is held here meanwhile: the
// command waits, as it would without us. One thread. Whoever uses it has blocked or ignores SIGPIPE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/stderr_tail.h"

namespace run_recorder {

class StderrRelay {
 public:
  StderrRelay();
  // The reading end of the next command's standard error, non-blocking, and how many of its last lines to remember.
  void begin(UniqueFd pipe, std::size_t tail_lines);
  // As complain() in terminal.h, behind what the command wrote so far.
  void complain(std::string_view text);
  void write(std::string_view text);

  // For poll(2): the pipe to read and the descriptor to write; -1 for what is not waited for.
  int reading_fd() const;
  int writing_fd() const;
  // Moves what can be moved now.
  void work();

  // The command has ended: reads its last words, which are still in the pipe, and nothing after them. Its last lines.
  std::vector<std::string> read_last_words();
  // Closes our end of the pipe; true where processes of the command still hold the other.
  bool end();

  // All that was read is written, or never will be.
  bool written() const { return waiting_.empty(); }
  std::size_t waiting_bytes() const { return waiting_.size(); }
  // What is not written yet, for somebody else to write.
  std::string take_rest() { return std::exchange(waiting_, {}); }
  // Nobody reads our standard error any more.
  bool broken() const { return broken_; }

 private:
  bool read_piece();
  void write_some();

  UniqueFd
      terminal_;  // ours where standard error is one, non-blocking; poll(2) promises no room for a whole piece there
  int output_;
  UniqueFd pipe_;
  StderrTail tail_{0};
  std::string waiting_;   // read, not written yet
  bool stalled_ = false;  // there is something to read, and nothing can be written
  bool broken_ = false;
};

}  // namespace run_recorder
