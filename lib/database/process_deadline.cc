#include "database/process_deadline.h"

#include <atomic>

#include "database/pg_watchdog.h"

namespace run_recorder {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<Clock::rep> deadline_ticks = Clock::time_point::max().time_since_epoch().count();

}  // namespace

void set_process_deadline(Clock::time_point deadline) {
  deadline_ticks.store(deadline.time_since_epoch().count());
  PgWatchdog::shared().apply_process_deadline();
}

Clock::time_point process_deadline() {
  return Clock::time_point(Clock::duration(deadline_ticks.load()));
}

}  // namespace run_recorder
