#include "schedule/time_zone.h"

#include <date/tz.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/nearest_name.h"

namespace run_recorder {
namespace {

constexpr std::string_view kUtc = "UTC";

std::string nearest_zone(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& zone : date::get_tzdb().zones) names.push_back(zone.name());
  return did_you_mean(name, names);
}

// The database's first and last period reach further than a Timestamp can say.
Timestamp within_timestamps(date::sys_seconds time) {
  constexpr std::chrono::seconds kLatest = std::chrono::days(365'000 * 10LL);
  return Timestamp(std::clamp(std::chrono::seconds(time.time_since_epoch()), -kLatest, kLatest));
}

}  // namespace

Result<TimeZone> TimeZone::find(std::string_view name) {
  if (name == kUtc) return TimeZone(nullptr);
  try {
    date::get_tzdb();
    try {
      return TimeZone(date::locate_zone(name));
    } catch (const std::runtime_error&) {
      return Error{ErrorKind::kInvalid,
                   fmt::format("\"{}\" is no time zone of this system; allowed are names as Europe/Berlin and UTC{}",
                               name, nearest_zone(name)),
                   {}};
    }
  } catch (const std::exception& e) {
    return Error{ErrorKind::kIo,
                 fmt::format("the time zones of this system cannot be read (is tzdata installed?): {}", e.what()),
                 {}};
  }
}

TimeZone::Period TimeZone::period_at(Timestamp time) const {
  if (zone_ == nullptr)
    return {within_timestamps(date::sys_seconds::min()), within_timestamps(date::sys_seconds::max()), {}};
  const auto info = zone_->get_info(std::chrono::floor<std::chrono::seconds>(time));
  return {within_timestamps(info.begin), within_timestamps(info.end), info.offset};
}

std::string TimeZone::name() const {
  return zone_ == nullptr ? std::string(kUtc) : zone_->name();
}

}  // namespace run_recorder
