#include "retention/retention.h"

#include <algorithm>

namespace run_recorder {
namespace {

// The status's own time; empty where keep is its time.
std::optional<std::chrono::milliseconds> own_time(const RetentionPolicy& policy, Status status) {
  switch (status) {
    case Status::kCompleted:
      return policy.completed;
    case Status::kFailed:
      return policy.failed;
    case Status::kCancelled:
      return policy.cancelled;
    case Status::kStuck:
      return policy.stuck;
    case Status::kQueued:
    case Status::kRunning:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::chrono::milliseconds kept_for(const RetentionPolicy& policy, Status status, std::string_view council) {
  if (const auto of_council = policy.councils.find(council); of_council != policy.councils.end()) {
    return of_council->second;
  }
  return own_time(policy, status).value_or(policy.keep);
}

std::optional<std::chrono::milliseconds> shortest_retention(const RetentionPolicy& policy) {
  std::optional<std::chrono::milliseconds> least;
  const auto consider = [&least](std::chrono::milliseconds time) {
    if (time.count() > 0) least = std::min(least.value_or(time), time);
  };
  consider(policy.keep);
  for (const Status status : terminal_statuses()) consider(own_time(policy, status).value_or(policy.keep));
  for (const auto& [council, time] : policy.councils) consider(time);
  return least;
}

bool is_expired(const RetentionPolicy& policy, Status status, std::string_view council,
                std::chrono::milliseconds age) {
  if (std::ranges::count(terminal_statuses(), status) == 0) return false;
  const std::chrono::milliseconds time = kept_for(policy, status, council);
  return time.count() > 0 && age >= time;
}

}  // namespace run_recorder
