// What this process takes of its host, as Prometheus' client libraries name it. Reads /proc at each call;
// thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace run_recorder {

// Empty: cannot be read here, or there is no limit.
struct OwnUsage {
  std::chrono::microseconds processor_time{};  // of all threads, user and system
  std::optional<std::uint64_t> virtual_bytes, resident_bytes;
  std::optional<std::uint64_t> open_files, max_files;
  std::optional<Timestamp> started_at;  // as the clock was at the first call
};
OwnUsage own_usage();

}  // namespace run_recorder
