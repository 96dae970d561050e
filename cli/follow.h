// `run-recorder list --follow` and `watch`: runs as they change, asked for again and again. They end when they are
// stopped, or when standard output is closed.
#pragma once

#include <chrono>

#include "cli/context.h"
#include "cli/run_query.h"
#include "cli/run_view.h"

namespace run_recorder {

// The runs there are, oldest first, then one line for each that is new or whose status changed.
int follow_runs(const Context& context, const RunQuery& query, std::chrono::milliseconds interval,
                RunWidth width = RunWidth::kUsual);
// A picture of the daemon and the newest runs that redraws itself; without a terminal the same as follow_runs.
int watch(const Context& context, const RunQuery& query, std::chrono::milliseconds interval);

}  // namespace run_recorder
