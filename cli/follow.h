// `run-recorder list --follow` and `watch`: runs as they change, asked for again and again. They end when they are
// stopped, or when standard output is closed. One thread.
#pragma once

#include <chrono>

#include "cli/context.h"
#include "cli/run_query.h"
#include "cli/run_view.h"

namespace run_recorder {

// So many runs at most, the newest.
constexpr std::uint64_t kFollowedRuns = 200;
// Each time they are looked for so long at most: where few runs fit a filter, older ones are not found.
constexpr PagePatience kFollowedPages{.at_most = std::chrono::seconds{1}};

// The runs there are, oldest first, then one line for each that is new or whose status changed. Returns the exit
// status where it fails; else it goes on.
int follow_runs(const Context& context, const RunQuery& query, std::chrono::milliseconds interval,
                const RunLayout& layout);

}  // namespace run_recorder
