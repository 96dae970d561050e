// What the configuration decides for the rooms above it: plain values with their defaults, which a reload may change.
// Config holds them as its sections; the event socket, reconciliation and retention work by them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace run_recorder {

// [limits], of the event socket
struct SocketLimits {
  std::uint64_t line_bytes = 1ULL << 20;
  std::uint64_t depth = 64;
  std::uint64_t connections = 1'024;  // for whoever comes first; those who have few get more
};

// [reconcile]
struct ReconcilePolicy {
  std::chrono::milliseconds grace{30'000};
  std::chrono::milliseconds interval{300'000};  // 0: at boot only
  std::chrono::milliseconds silent_after{86'400'000};
  std::chrono::milliseconds recorder_timeout{600'000};
  std::uint64_t max_stuck = 0;  // 0: no breaker
  std::uint64_t log_rows = 1'000;
};

// [expect.NAME]: what should run, and for how long. One of every and cron says when, or none of them.
struct Expectation {
  std::string council;                                          // a pattern with * and ?
  std::chrono::milliseconds every{0};                           // from one start to the next; 0: not said
  std::string cron{};                                           // empty: not said
  std::string timezone = "UTC";                                 // of cron
  std::chrono::milliseconds margin = std::chrono::minutes(10);  // how late a start may be
  std::chrono::milliseconds max_duration{0};                    // of one run; 0: any
  bool operator==(const Expectation&) const = default;
};

// [expect]
struct ExpectPolicy {
  bool learn = false;  // a run that lasts far longer than its council's runs did is a finding, too
  std::map<std::string, Expectation, std::less<>> named{};
};

using NamedDurations = std::map<std::string, std::chrono::milliseconds, std::less<>>;

// [retention]: how long finished runs are kept; 0 is for ever. A council's time wins over a status's, a status's over
// keep. And how long rows of the recorder's own tables are.
struct RetentionPolicy {
  std::chrono::milliseconds keep{0};
  std::optional<std::chrono::milliseconds> completed{}, failed{}, cancelled{}, stuck{};  // empty: as keep
  NamedDurations councils{};
  std::chrono::milliseconds passes = std::chrono::hours(24 * 400);     // the reports of passes; 0: for ever
  std::chrono::milliseconds recorders = std::chrono::hours(24 * 400);  // not seen, and positions not used; likewise
  std::chrono::milliseconds interval{3'600'000};                       // 0: runs only when asked
};

}  // namespace run_recorder
