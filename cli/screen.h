// The whole terminal as `watch` uses it: the alternate screen without a cursor, and keys that are read one by one
// without being shown. However the process ends (q, an error, a signal), and while it is stopped (Ctrl-Z), the
// terminal is as it was. One object at a time, one thread.
#pragma once

#include <chrono>
#include <optional>

namespace run_recorder {

class Screen {
 public:
  // Not entered yet; standard output is a terminal.
  Screen() = default;
  ~Screen() { leave(); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void enter();
  void leave();

  // Waits that long for a key, where standard input is a terminal. Nothing: none came, or the window has another size
  // now, or the process was stopped meanwhile. Ends the process as pause_while_read() does where the terminal is
  // gone.
  static std::optional<char> wait_for_key(std::chrono::milliseconds time);
};

}  // namespace run_recorder
