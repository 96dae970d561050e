// `run-recorder stats`: how the newest runs of each council went, and how long they took.
#pragma once

#include "cli/looking.h"

namespace run_recorder {

int show_stats(const Looking& looking, const RunQuery& query);

}  // namespace run_recorder
