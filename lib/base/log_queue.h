// A bounded queue of log lines and the thread that writes them, so that no working thread blocks on the log's reader.
// Lines that find no room or cannot be written are dropped and counted; one line in their place gives the count.
//
// While the writer keeps up a line is written when push() returns, so that the log is in the order of events. Once
// that takes longer than `push_timeout` push() returns at once until the queue is empty again. Safe from any thread.
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
    std::chrono::milliseconds push_timeout{100};
  };

  LogQueue(Write write, Gap gap, Bounds bounds);
  LogQueue(Write write, Gap gap) : LogQueue(std::move(write), std::move(gap), Bounds{}) {}
  // Where finish() was not called: as finish(0 ms).
  ~LogQueue();
  LogQueue(const LogQueue&) = delete;
  LogQueue& operator=(const LogQueue&) = delete;

  void push(Line line);
  // True: all that was pushed before is written, or its write has failed. False: it timed out.
  bool flush(std::chrono::milliseconds within);
  // Drains the queue and joins the thread. False: it is still blocked in a write and is detached; what is left and
  // what is pushed from now on is dropped. To be called once.
  bool finish(std::chrono::milliseconds within);

  std::uint64_t dropped() const;
  // How long the writer has been behind; 0: it keeps up.
  std::chrono::milliseconds behind_for() const;

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;  // the thread's too, which may outlive this
  std::thread thread_;
};

}  // namespace run_recorder
