// What the shells' completions ask: `run-recorder --complete WORD...`, the words behind the program's name, the last
// of them the one that is being typed, maybe empty. Prints what it may be, a line each, "WORD<tab>what it means"; or
// one line "<tab>files", "<tab>folders", "<tab>users", "<tab>groups" or "<tab>command N", N being the index of the
// word with which the command begins that exec runs. Names and ids are asked from the daemon, briefly; where it does
// not answer there are none. One thread.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace CLI {
class App;
}

namespace run_recorder {

bool is_completion(const std::vector<std::string>& arguments);
// app: the tool, with all its commands declared for this invocation. Returns the exit status.
int complete(const CLI::App& app, Invocation& invocation, std::vector<std::string> arguments);

}  // namespace run_recorder
