#include "retention/retention.h"

#include <algorithm>
#include <functional>

namespace run_recorder {

std::chrono::milliseconds Retention::time_for(Status status, std::string_view council) const {
  if (const auto of_council = councils.find(council); of_council != councils.end()) return of_council->second;
  const auto of_status = statuses.find(status);
  return of_status == statuses.end() ? keep : of_status->second;
}

std::optional<std::chrono::milliseconds> Retention::shortest() const {
  std::optional<std::chrono::milliseconds> least;
  const auto consider = [&least](std::chrono::milliseconds time) {
    if (time.count() > 0) least = std::min(least.value_or(time), time);
  };
  consider(keep);
  for (const auto& [status, time] : statuses) consider(time);
  for (const auto& [council, time] : councils) consider(time);
  return least;
}

bool Retention::is_over(Status status, std::string_view council, std::chrono::milliseconds age) const {
  if (std::ranges::count(terminal_statuses(), status) == 0) return false;
  const std::chrono::milliseconds time = time_for(status, council);
  return time.count() > 0 && age >= time;
}

}  // namespace run_recorder
