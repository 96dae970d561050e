// Logs a refusal that peers meet one after the other (a limit is reached, a descriptor is missing) when it begins,
// and its end once nobody has met it for five seconds: not with the first that gets through, which would log both
// again and again. Not synchronised.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"

namespace run_recorder {

class RefusalGuard {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kProven{5};

  RefusalGuard(LogLevel level, std::string begins, std::string ends)
      : guard_(level, std::move(begins), std::move(ends)) {}

  void report(std::string_view detail, Clock::time_point now) {
    guard_.report(detail);
    last_ = now;
  }
  // Somebody got through.
  void clear_when_over(Clock::time_point now) {
    if (guard_.active() && now - last_ >= kProven) guard_.clear();
  }
  bool active() const { return guard_.active(); }

 private:
  RepeatGuard guard_;
  Clock::time_point last_{};
};

}  // namespace run_recorder
