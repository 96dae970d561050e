// Percentiles by the nearest rank. Pure, thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace run_recorder {

// The value that so many percent of them do not exceed. Precondition: sorted, and not empty.
template <class Value>
const Value& nearest_rank(const std::vector<Value>& sorted, std::size_t percent) {
  const std::size_t rank = (sorted.size() * percent + 99) / 100;
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

}  // namespace run_recorder
