#include "run/status.h"

#include <algorithm>

namespace run_recorder {
namespace {

constexpr std::array kActive{Status::kQueued, Status::kRunning};
constexpr std::array kFinished{Status::kCompleted, Status::kFailed, Status::kCancelled};
constexpr std::array kTerminal{Status::kCompleted, Status::kFailed, Status::kCancelled, Status::kStuck};
constexpr std::array kAll{Status::kQueued, Status::kRunning,   Status::kCompleted,
                          Status::kFailed, Status::kCancelled, Status::kStuck};

}  // namespace

std::string_view to_string(Status status) {
  switch (status) {
    case Status::kQueued:
      return "queued";
    case Status::kRunning:
      return "running";
    case Status::kCompleted:
      return "completed";
    case Status::kFailed:
      return "failed";
    case Status::kCancelled:
      return "cancelled";
    case Status::kStuck:
      return "stuck";
  }
  return "";
}

std::optional<Status> parse_status(std::string_view text) {
  for (const Status status : kAll) {
    if (to_string(status) == text) return status;
  }
  return std::nullopt;
}

std::span<const Status> active_statuses() {
  return kActive;
}
std::span<const Status> terminal_statuses() {
  return kTerminal;
}

std::span<const Status> finished_statuses() {
  return kFinished;
}

bool is_finished(Status status) {
  return std::find(kFinished.begin(), kFinished.end(), status) != kFinished.end();
}

}  // namespace run_recorder
