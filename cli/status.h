// `run-recorder status`. One thread.
#pragma once

#include <string>

#include "cli/context.h"
#include "cli/json_object.h"
#include "cli/terminal.h"

namespace run_recorder {

// Returns the exit status: 1 where events are refused, all or all but those of the lifecycle.
int show_status(const Context& context);
// The daemon's state on one line, for `watch`.
std::string status_line(const JsonObject& status, const Terminal& terminal);

}  // namespace run_recorder
