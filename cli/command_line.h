// The commands, their flags and their help; everything else is in the command's own file. One thread.
#pragma once

#include <string>
#include <vector>

namespace run_recorder {

// Parses the arguments (without the program's name), runs the command and returns the exit status (SPEC section 7).
// Throws StartError where there is nothing to run.
int run_command_line(std::vector<std::string> arguments);

}  // namespace run_recorder
