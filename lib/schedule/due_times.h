// When a cron expression is due on the clock of a zone, as Debian's cron would start it (cron(8), "Daylight Saving
// Time"). An expression at fixed times is due once a day also where the clock is set: what the clock skips is due
// right after it was set, what it shows twice is due the first time. One that is due every so often follows the clock
// as it is. A change of three hours and more is a correction, which everything follows. Pure, thread-safe.
#pragma once

#include <functional>
#include <optional>

#include "base/time.h"
#include "schedule/cron.h"
#include "schedule/time_zone.h"

namespace run_recorder {

using PeriodAt = std::function<TimeZone::Period(Timestamp)>;

// The first time after that one; empty: none within a hundred years.
std::optional<Timestamp> first_due_after(const CronExpression& cron, const PeriodAt& zone, Timestamp after);

}  // namespace run_recorder
