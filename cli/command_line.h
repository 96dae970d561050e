// The commands, their flags and their help; everything else is in the command's own file. One thread.
#pragma once

namespace run_recorder {

// Parses, runs the command and returns the exit status (SPEC section 7). Throws StartError where there is nothing to
// run.
int run_command_line(int argc, const char* const* argv);

}  // namespace run_recorder
