// The command line as all commands share it: the parser, the flags of every command, usage mistakes. The commands
// themselves are records (cli/command.h). One thread.
#pragma once

#include <string>
#include <vector>

namespace run_recorder {

// Parses the arguments (without the program's name), runs the command and returns the exit status (contract section
// 7). Throws StartError where there is nothing to run.
int run_command_line(std::vector<std::string> arguments);

}  // namespace run_recorder
