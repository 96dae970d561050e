// The actions of `admin` that take several steps. Each returns the exit status, and leaves the service as it was
// where a step fails. One thread.
#pragma once

#include <string>

#include "cli/command.h"

namespace run_recorder {

// Puts the copy in that file in the place of the SQLite database; what was there is kept beside it.
int restore_installation(const Invocation& invocation, const std::string& file);
// Writes all rows into that database, and leaves the service stopped: its configuration still names the old one.
int move_installation(const Invocation& invocation, const std::string& url);

}  // namespace run_recorder
