// What the kernel says of a process's signals (/proc/PID/status): which wait for it, and what it does with each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace run_recorder {

// Of /proc/PID/status, mostly the user's groups.
inline constexpr std::size_t kMaxStatusBytes = std::size_t{64} * 1024;

struct SignalSets {
  std::uint64_t pending = 0;  // sent to the whole process, not delivered yet; bit 0 is signal 1, as in all of them
  std::uint64_t blocked = 0;
  std::uint64_t ignored = 0;
  std::uint64_t caught = 0;

  static bool has(std::uint64_t set, int signal) { return ((set >> (signal - 1)) & 1) != 0; }
  // The kernel acts on it at once: whoever got it and would end by it has ended.
  bool leaves_to_kernel(int signal) const { return !has(blocked | ignored | caught, signal); }
};

// Of the text of that file; empty where a line is missing. Pure.
std::optional<SignalSets> parse_signal_sets(std::string_view status);
// Of an open /proc/PID/status, read anew; empty where that process has been reaped.
std::optional<SignalSets> read_signal_sets(int status_fd);

}  // namespace run_recorder
