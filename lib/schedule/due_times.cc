#include "schedule/due_times.h"

#include <algorithm>

namespace run_recorder {
namespace {

using std::chrono::days;
using std::chrono::microseconds;
using std::chrono::minutes;
using Local = std::chrono::local_time<microseconds>;

constexpr std::chrono::hours kCorrection{3};
constexpr days kFarthest{36'525};

Local on_clock(Timestamp time, std::chrono::seconds offset) {
  return Local(time.time_since_epoch() + offset);
}

// The first time on the clock that is not before `from` and before `until`.
std::optional<Local> first_named(const CronExpression& cron, Local from, Local until) {
  for (auto day = std::chrono::floor<days>(from); day < until; day += days(1)) {
    if (!cron.names_day(std::chrono::year_month_day(day))) continue;
    const auto time = std::ranges::lower_bound(cron.times(), from - day);
    if (time != cron.times().end() && day + *time < until) return day + *time;
    if (time != cron.times().end()) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Timestamp> first_due_after(const CronExpression& cron, const PeriodAt& zone, Timestamp after) {
  const auto farthest = after + kFarthest;
  for (auto at = after; at < farthest;) {
    const auto period = zone(at);
    const auto before = zone(period.begin - microseconds(1)).offset;
    const bool special = cron.at_fixed_times() && std::chrono::abs(period.offset - before) < kCorrection;
    // What the clock skipped when the period began.
    const auto begin = on_clock(period.begin, period.offset);
    if (special && period.begin > after && first_named(cron, on_clock(period.begin, before), begin))
      return period.begin;
    // What it shows a second time was due the first time.
    auto from = std::max(on_clock(after, period.offset) + microseconds(1), begin);
    if (special) from = std::max(from, on_clock(period.begin, before));
    if (const auto found = first_named(cron, from, on_clock(std::min(period.end, farthest), period.offset)))
      return Timestamp(found->time_since_epoch() - period.offset);
    at = period.end;
  }
  return std::nullopt;
}

}  // namespace run_recorder
