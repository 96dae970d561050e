// How far something long has come: one line on standard error that is written over, on a terminal only. One thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "cli/terminal.h"

namespace run_recorder {

class Progress {
 public:
  Progress() : terminal_(terminal_of(2)), began_(Clock::now()) {}
  // Takes the line away.
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Shows the words, at most a few times a second and not within the first half second: what is quick needs none.
  void show(std::string_view words);
  // Whether show() would show anything now.
  bool wanted() const;
  void clear();
  // How long ago it began.
  std::chrono::milliseconds taken() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  const Terminal terminal_;
  const Clock::time_point began_;
  Clock::time_point shown_at_{};
  bool shown_ = false;
};

}  // namespace run_recorder
