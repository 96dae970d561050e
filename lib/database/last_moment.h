// When the process is about to end: a moment that no call to any database outlives, whatever its own deadline is.
// Both adapters obey it. Safe from any thread.
#pragma once

#include <chrono>

namespace run_recorder {

// Calls under way end then too, and every later one at once. What was being committed is in doubt, as with any
// deadline.
void end_database_calls_at(std::chrono::steady_clock::time_point moment);

// time_point::max() where none is set.
std::chrono::steady_clock::time_point last_moment_of_database_calls();

}  // namespace run_recorder
