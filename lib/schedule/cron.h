// A cron expression: which minutes of which days it names, on the clock of whichever place. As Debian's cron has it
// (crontab(5)): five fields or @daily and the like; names of months and days; ranges, lists, steps; Sunday is 0 and
// 7; and where neither the day of the month nor the day of the week begins with `*`, a day fits that fits either.
// Pure, thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace run_recorder {

class CronExpression {
 public:
  // kInvalid: which field, what was found, and what is allowed. An expression that names no day of any year (30
  // February) is invalid too.
  static Result<CronExpression> parse(std::string_view text);

  bool names_day(std::chrono::year_month_day day) const;
  // The minutes of such a day, in order, counted from 00:00 of its clock.
  const std::vector<std::chrono::minutes>& times() const { return times_; }
  // Neither the minute nor the hour begins with `*`: it is due at times of the day, not every so often. What that
  // changes where a clock is set: due_times.h.
  bool at_fixed_times() const { return fixed_; }

 private:
  bool names_any_day() const;

  std::vector<std::chrono::minutes> times_;
  std::uint32_t days_ = 0;      // bit 1 to 31
  std::uint32_t months_ = 0;    // bit 1 to 12
  std::uint32_t weekdays_ = 0;  // bit 0 (Sunday) to 6
  bool either_day_ = false;
  bool fixed_ = false;
};

}  // namespace run_recorder
