// Whether the database's clock is to be believed where it says that somebody was not seen for months. A clock that
// leaps ahead, as one that is set right after a boot, makes everybody look so until they have shown themselves
// again. Pure; for one thread.
#pragma once

#include <chrono>
#include <optional>

#include "base/time.h"

namespace run_recorder {

class ClockWatch {
 public:
  using Steady = std::chrono::steady_clock;
  static constexpr std::chrono::minutes kLeap{5};  // beyond the time that went by here

  // What the database's clock says now. Whether it has been watched for so long and never leapt ahead meanwhile.
  bool steady_for(std::chrono::milliseconds time, Timestamp database, Steady::time_point now) {
    if (last_ && database - last_->database > now - last_->at + kLeap) since_.reset();
    if (!since_) since_ = now;
    last_ = Reading{database, now};
    return now - *since_ >= time;
  }

 private:
  struct Reading {
    Timestamp database;
    Steady::time_point at;
  };
  std::optional<Reading> last_;
  std::optional<Steady::time_point> since_;
};

}  // namespace run_recorder
