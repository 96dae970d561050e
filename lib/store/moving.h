// What moving rows between databases says in the same words for each of them. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace run_recorder {

// A row's history is not its entries 1 … last_seq.
Error incomplete_history(std::int64_t last_seq, std::int64_t entries, std::int64_t last);
// A dead letter of a recorder that keeps its own here.
Error recorder_known(std::string_view recorder);
Error letters_missing(std::uint64_t in_ledger, std::uint64_t here);

}  // namespace run_recorder
