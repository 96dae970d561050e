// The lines of the log on their way out: a bounded queue and a thread of its own that writes them, so that no thread
// that works waits for whoever reads the log. What the queue has no room for, and what cannot be written, is dropped
// and counted, and one line says how many at the place where they would have stood.
//
// While the log keeps up a line is written when push() returns, so that lines come in the order of what they tell of.
// Once that took longer than `patience` nobody waits any more until the queue is empty again. Safe from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"

namespace run_recorder {

class LogQueue {
 public:
  struct Line {
    std::string text;                // as it is shown, without newline
    std::vector<std::string> entry;  // for the journal; empty where it does not go there
    LogLevel level = LogLevel::kInfo;
  };
  // False: it could not be written. Called by the queue's thread alone; may block for ever.
  using Write = std::function<bool(const Line&)>;
  // The line that says how many were dropped.
  using Gap = std::function<Line(std::uint64_t dropped)>;
  struct Bounds {
    std::size_t bytes = 256 << 10;
    std::chrono::milliseconds patience{100};
  };

  LogQueue(Write write, Gap gap, Bounds bounds);
  LogQueue(Write write, Gap gap) : LogQueue(std::move(write), std::move(gap), Bounds{}) {}
  // Where finish() was not called: as finish(0 ms).
  ~LogQueue();
  LogQueue(const LogQueue&) = delete;
  LogQueue& operator=(const LogQueue&) = delete;

  void push(Line line);
  // True when all that was pushed before is written.
  bool flush(std::chrono::milliseconds within);
  // Writes what is left and ends the thread. False: it still blocks in a write and is left to itself; what is left
  // and what is pushed from now on is dropped. To be called once, by one thread.
  bool finish(std::chrono::milliseconds within);

  std::uint64_t dropped() const;
  // Since when nobody waits for the writer because it does not keep up, as an age; 0: it keeps up.
  std::chrono::milliseconds behind_for() const;

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;  // the thread's too, which may outlive this
  std::thread thread_;
};

}  // namespace run_recorder
