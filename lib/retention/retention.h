// How long finished runs are kept, by the policy of config [retention]. Pure, thread-safe.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "config/policies.h"
#include "run/status.h"

namespace run_recorder {

// How long a run that ended so is kept; 0 is for ever.
std::chrono::milliseconds kept_for(const RetentionPolicy& policy, Status status, std::string_view council);
// The shortest time above 0; empty where everything is kept for ever.
std::optional<std::chrono::milliseconds> shortest_retention(const RetentionPolicy& policy);
// Whether a run may go whose last event was applied that long ago, or which was found stuck that long ago. An active
// one never may.
bool is_expired(const RetentionPolicy& policy, Status status, std::string_view council,
                std::chrono::milliseconds age);

}  // namespace run_recorder
