// What `exec` and `emit` write to one of their standard streams: what exec's command writes there, whose end it
// remembers and which may go into a log too, and on standard error the tool's own words in between. Never blocks, so
// that signals get through and events are sent while whoever reads it, a pager or a stopped terminal, does not.
// Little is held here meanwhile: the command waits, as it would without us. One thread. Whoever uses it has blocked
// or ignores SIGPIPE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/run_log.h"
#include "cli/stderr_tail.h"

namespace run_recorder {

class StreamRelay {
 public:
  // STDOUT_FILENO or STDERR_FILENO; -1: none, and nothing will pass.
  explicit StreamRelay(int stream);
  // The reading end of the next command's stream, non-blocking, how many of its last lines to remember, and where it
  // goes besides; log: null, or it must outlive the command.
  void begin(UniqueFd pipe, std::size_t tail_lines, RunLog* log);
  // As complain() in terminal.h, behind what the command wrote so far.
  void complain(std::string_view text);
  void write(std::string_view text);

  // For poll(2): the pipe to read and the descriptor to write; -1 for what is not waited for.
  int reading_fd() const;
  int writing_fd() const;
  // Moves what can be moved now.
  void work();
  // Where the command has written a line in part and nothing more for now. After the work of all streams, so that
  // whole lines of others come first.
  void log_unfinished_line();

  // The command has ended: reads its last words, which are still in the pipe, and nothing after them. Its last lines.
  std::vector<std::string> read_last_words();
  // Closes our end of the pipe; true where processes of the command still hold the other.
  bool end();

  // All that was read is written, or never will be.
  bool written() const { return waiting_.empty(); }
  std::size_t waiting_bytes() const { return waiting_.size(); }
  // What is not written yet, for somebody else to write.
  std::string take_rest() { return std::exchange(waiting_, {}); }
  // Nothing more will be read.
  bool ended() const { return !pipe_; }
  // Nobody reads our stream any more, or it takes nothing more.
  bool broken() const { return broken_; }
  // Of standard output the errno with which, in this attempt, something was lost, or 0. What a full disk does to
  // standard error is of no consequence.
  int failure() const { return failure_; }

 private:
  bool read_piece();
  void write_some();
  void fail(int error);

  const int stream_;
  UniqueFd opened_;  // a terminal, non-blocking: poll(2) promises no room for a whole piece there; or /dev/null
  int output_;
  UniqueFd pipe_;
  RunLog* log_ = nullptr;  // of what comes through the pipe
  StderrTail tail_{0};
  std::string waiting_;   // read, not written yet
  bool drained_ = false;  // there was nothing more to read
  bool stalled_ = false;  // there is something to read, and nothing can be written
  bool broken_ = false;
  int failure_ = 0;
};

}  // namespace run_recorder
