// `run-recorder help [COMMAND]` and `run-recorder version`, for who looks for them as commands.
#include <memory>

#include "cli/command.h"
#include "cli/command_line.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

Handler declare_help(Flags flags) {
  const auto words = std::make_shared<std::vector<std::string>>();
  flags.any_operands("COMMAND", *words, "The command, as in help dead-letters retry");
  return [words](const Invocation&) {
    words->emplace_back("--help");
    return run_command_line(*words);
  };
}

Handler declare_version(Flags) {
  return [](const Invocation&) {
    print("run-recorder " RR_VERSION "\n");
    return kExitDone;
  };
}

}  // namespace

extern const Command kHelpCommand = {"help", "Say what a command takes", declare_help};
extern const Command kVersionCommand = {"version", "Print the version", declare_version};

}  // namespace run_recorder
