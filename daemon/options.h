// What the daemon was asked to do: its arguments, without the configuration's. Pure.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace run_recorder {

enum class Action {
  kServe,
  kCheck,
  kCheckConfig,
  kMigrate,
  kPrintMigrations,
  kDrain,
  kRestore,
  kAdoptSpool,
  kHelp,
  kVersion
};

struct DaemonOptions {
  Action action = Action::kServe;
  std::vector<std::pair<std::string, std::string>> config_flags;
};

// Throws StartError (2) where an argument is not known or actions exclude each other.
DaemonOptions parse_arguments(std::vector<std::string> arguments);
std::string help_text();

}  // namespace run_recorder
