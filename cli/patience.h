// How long `export` and `import` go on with a daemon that answered before and is away now, as while it restarts. One
// thread.
#pragma once

#include <chrono>

#include "base/result.h"

namespace run_recorder {

class Patience {
 public:
  // Waits a little. False: it has been too long, or there never was an answer.
  bool wait(const Error& error);
  void note_answer() {
    answered_ = true;
    away_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool answered_ = false;
  bool away_ = false;
  Clock::time_point give_up_{};  // while away_
};

}  // namespace run_recorder
