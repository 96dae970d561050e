#include "expect/outlook.h"

#include <algorithm>

namespace run_recorder {

Result<StartSchedule> StartSchedule::of(const Expectation& expectation) {
  StartSchedule made;
  made.every_ = expectation.every;
  made.margin_ = expectation.margin;
  if (expectation.cron.empty()) return made;
  auto cron = CronExpression::parse(expectation.cron);
  if (!cron) return cron.error();
  auto zone = TimeZone::find(expectation.timezone);
  if (!zone) return zone.error();
  made.cron_ = std::move(*cron);
  made.zone_ = *zone;
  return made;
}

Timestamp StartSchedule::counts_from(Timestamp due) const {
  if (!cron_) return due - every_ / 2;
  return due - early();
}

std::chrono::milliseconds StartSchedule::early() const {
  return std::min<std::chrono::milliseconds>(kEarly, margin_);
}

std::optional<Timestamp> StartSchedule::due(Timestamp since, std::optional<Timestamp> last_start) const {
  if (cron_) {
    const auto after = last_start ? std::max(since, *last_start + early()) : since;
    return first_due_after(
        *cron_, [this](Timestamp at) { return zone_->period_at(at); }, after);
  }
  if (every_ == std::chrono::milliseconds(0)) return std::nullopt;
  return last_start ? std::max(since, *last_start + every_) : since + every_;
}

Outlook outlook(const StartSchedule& schedule, Timestamp since, std::optional<Timestamp> last_start, Timestamp now) {
  const auto due = schedule.due(since, last_start);
  if (!due) return {};
  if (now < *due) return {StartState::kWaiting, due};
  return {now <= *due + schedule.margin() ? StartState::kLate : StartState::kMissed, due};
}

std::string_view to_string(StartState state) {
  switch (state) {
    case StartState::kNone:
    case StartState::kWaiting:
      return "ok";
    case StartState::kLate:
      return "late";
    case StartState::kMissed:
      return "missed";
  }
  return "ok";
}

}  // namespace run_recorder
