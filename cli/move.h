// `run-recorder export` and `import`: all runs with their history, one JSON object a line. Each returns the exit
// status.
#pragma once

#include "cli/looking.h"

namespace run_recorder {

int export_runs(const Looking& looking);
// From standard input. 1 where a run is there already and differs, or is refused; those are named, the others taken.
int import_runs_from_input(const Looking& looking);

}  // namespace run_recorder
