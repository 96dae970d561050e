// Random names: ids of spools, incarnations, passes, connections and events. From getrandom(2), so they never repeat
// across hosts, containers or forks. Thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "base/time.h"

namespace run_recorder {

// That many random hex digits in lower case. Aborts where the kernel has no randomness (Linux before 3.17).
std::string random_hex(std::size_t digits);

// RFC 9562, lower case with hyphens. Version 7 begins with the time, so that text order is roughly the order of
// creation.
std::string random_uuid();
std::string time_ordered_uuid(Timestamp now);

}  // namespace run_recorder
