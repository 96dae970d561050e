// How many files the daemon may have open (RLIMIT_NOFILE), shared between connections and watched processes. For the
// main thread, before the event server starts.
#pragma once

#include <cstddef>

namespace run_recorder {

// The most processes that are watched, each with a descriptor.
inline constexpr std::size_t kMostWatchedProcesses = 10'240;

// Raises the soft limit as far as `others` and kMostWatchedProcesses need and the hard limit allows. Returns how many
// processes there is room for; at a low limit a sixteenth of it, which then `others` go without.
std::size_t room_for_processes(std::size_t others);

}  // namespace run_recorder
