// What a run used (tokens, cost, whatever its events count), summed by key in its row. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <optional>

#include "base/json_text.h"

namespace run_recorder {

// The most bytes of a row's sums. A key or a digit that would go beyond stays in the history only.
inline constexpr std::size_t kMaxUsageBytes = 4'096;

// Adds said, a valid object of numbers, to the row's sums by key: exactly, to 50 decimal digits. A sum that is no
// finite double is not taken, nor is one of a key whose value in the row is no number. False: nothing changed.
bool add_usage(std::optional<JsonText>& sums, const JsonText& said);

}  // namespace run_recorder
