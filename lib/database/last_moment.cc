#include "database/last_moment.h"

#include <atomic>

#include "database/pg_watchdog.h"

namespace run_recorder {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<Clock::rep> moment_ticks = Clock::time_point::max().time_since_epoch().count();

}  // namespace

void end_database_calls_at(Clock::time_point moment) {
  moment_ticks.store(moment.time_since_epoch().count());
  PgWatchdog::shared().look_again();
}

Clock::time_point last_moment_of_database_calls() {
  return Clock::time_point(Clock::duration(moment_ticks.load()));
}

}  // namespace run_recorder
