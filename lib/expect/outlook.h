// What an expectation says of a moment (contract section 11): when the next start is due, and whether one is missing.
// Pure, thread-safe.
#pragma once

#include <chrono>
#include <optional>

#include "base/time.h"
#include "config/policies.h"
#include "schedule/due_times.h"

namespace run_recorder {

// How long before it is due a start by cron may come, at most: clocks differ, and timers are early. Two times of cron
// are a minute apart, so that the one before is never meant.
inline constexpr std::chrono::seconds kEarly{30};

// When the starts of one expectation are due.
class StartSchedule {
 public:
  // The expectation's texts have been checked with the configuration; kInvalid where they have not.
  static Result<StartSchedule> of(const Expectation& expectation);

  bool expects_starts() const { return every_ > std::chrono::milliseconds(0) || cron_; }
  // The start that is due next, as long as none has come; empty: none is. `since`: when somebody began to look.
  std::optional<Timestamp> due(Timestamp since, std::optional<Timestamp> last_start) const;
  std::chrono::milliseconds margin() const { return margin_; }
  // A start from this time on is the one that is due then, or makes up for it.
  Timestamp counts_from(Timestamp due) const;

 private:
  std::chrono::milliseconds early() const;

  std::chrono::milliseconds every_{0};
  std::chrono::milliseconds margin_{0};
  std::optional<CronExpression> cron_;
  std::optional<TimeZone> zone_;
};

enum class StartState {
  kNone,     // no start is expected
  kWaiting,  // the next one is not due yet
  kLate,     // it is due, and may still come
  kMissed,   // it is later than the margin
};
std::string_view to_string(StartState state);  // "ok" also where none is expected

struct Outlook {
  StartState state = StartState::kNone;
  std::optional<Timestamp> due;
};
Outlook outlook(const StartSchedule& schedule, Timestamp since, std::optional<Timestamp> last_start, Timestamp now);

}  // namespace run_recorder
