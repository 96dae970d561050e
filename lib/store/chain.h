// The order of a chain's attempts and the places of its pages, the same for every database. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

#include "run/run.h"

namespace run_recorder {

// At most so many rows of one chain are looked at.
inline constexpr std::size_t kMaxChain = 1'000;

// Sorts the rows of one chain: a parent before its children, and otherwise by attempt, started_at (none last),
// run_id. A parent that is not among the rows does not count. Rows that loop come where they are the least of what is
// left.
void sort_chain(std::vector<Run>& rows);

// Where a page begins in a sorted chain: after the row that the cursor names, or, where that has gone meanwhile, at
// the place it had. kInvalid: not a chain's cursor.
Result<std::size_t> place_in_chain(std::span<const Run> sorted, std::string_view cursor);
// The cursor of the page after the row at that place.
std::string chain_cursor(std::span<const Run> sorted, std::size_t last);

}  // namespace run_recorder
