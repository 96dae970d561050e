// `run-recorder export` and `import`: all that moves from one database to another, as lines of JSON (control/move.h
// has their form). Each returns the exit status.
#pragma once

#include <string>

#include "cli/context.h"

namespace run_recorder {

// From the beginning, or from where an export stopped: its error names the cursor.
int export_all(const Context& context, const std::string& cursor);
// From standard input. 1 where a line is refused; it is named, and the others are taken.
int import_from_input(const Context& context);

}  // namespace run_recorder
