// `run-recorder status`.
#pragma once

#include <string>

#include "cli/looking.h"

namespace run_recorder {

int show_status(const Looking& looking);
// The daemon's state on one line, for `watch`.
std::string status_line(const JsonObject& status, const Terminal& terminal);

}  // namespace run_recorder
