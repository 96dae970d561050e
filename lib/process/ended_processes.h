// Ends of workers and of senders' connections, until the grace is over and their runs can be judged. Bounded: what
// does not fit is left to the pass of the next interval. Not synchronised: the reconciler guards it.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

namespace run_recorder {

struct ProcessEnd {
  std::string process;     // identity of the process that ended, or whose connection did; may be empty
  std::string connection;  // the connection that ended; may be empty
  std::chrono::steady_clock::time_point due{};
  int checks = 0;  // that could not decide yet
};

class EndedProcesses {
 public:
  using Clock = std::chrono::steady_clock;

  // True: it is due before all others.
  bool add(ProcessEnd end);
  // Those that are due by now, at most kAtOnce.
  std::vector<ProcessEnd> take_due(Clock::time_point now);
  std::optional<Clock::time_point> next_due() const;
  std::size_t size() const { return ends_.size(); }

  static constexpr std::size_t kMost = 20'000;
  static constexpr std::size_t kAtOnce = 5'000;

 private:
  std::deque<ProcessEnd> ends_;  // by due
};

}  // namespace run_recorder
