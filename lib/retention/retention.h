// How long finished runs are kept (config [retention]). Pure, thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "run/status.h"

namespace run_recorder {

// 0 means for ever, in every member.
struct Retention {
  std::chrono::milliseconds keep{0};
  std::map<Status, std::chrono::milliseconds> statuses;                    // instead of keep
  std::map<std::string, std::chrono::milliseconds, std::less<>> councils;  // instead of both

  // How long a run that ended so is kept.
  std::chrono::milliseconds time_for(Status status, std::string_view council) const;
  // The shortest time above 0; empty where everything is kept for ever.
  std::optional<std::chrono::milliseconds> shortest() const;
  // Whether a run may go whose last event was applied that long ago, or which was found stuck that long ago. An
  // active one never may.
  bool is_over(Status status, std::string_view council, std::chrono::milliseconds age) const;
};

}  // namespace run_recorder
