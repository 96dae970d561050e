// `run-recorder stats`: how the newest runs of each council went, and how long they took.
#pragma once

#include "cli/context.h"
#include "cli/run_query.h"

namespace run_recorder {

int show_stats(const Context& context, const RunQuery& query);

}  // namespace run_recorder
