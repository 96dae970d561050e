// The deadline of every database call in the process while it shuts down, whatever a call's own deadline is. Both
// adapters obey it. Safe from any thread.
#pragma once

#include <chrono>

namespace run_recorder {

// Calls under way fail then too, and later ones at once: kUnavailable, or kInDoubt for a COMMIT under way.
void set_process_deadline(std::chrono::steady_clock::time_point deadline);

// time_point::max() where none is set.
std::chrono::steady_clock::time_point process_deadline();

}  // namespace run_recorder
