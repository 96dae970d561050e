// The order of a chain's attempts, the same for every database. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <vector>

#include "run/run.h"

namespace run_recorder {

// At most so many rows of one chain are looked at.
inline constexpr std::size_t kMaxChain = 1'000;

// Sorts the rows of one chain: a parent before its children, and otherwise by attempt, started_at (none last),
// run_id. A parent that is not among the rows does not count. Rows that loop come where they are the least of what is
// left.
void sort_chain(std::vector<Run>& rows);

}  // namespace run_recorder
