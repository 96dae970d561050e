// `run-recorder doctor`: looks at an installation from where it stands, with or without a running daemon, and says of
// each thing whether it is fine and what to do where it is not. Returns the exit status: 0 where all is fine, else 1.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/context.h"
#include "config/config.h"

namespace run_recorder {

struct DoctorOptions {
  LoadedConfig config = ConfigProblems{};  // as the daemon would read it
  std::vector<std::pair<std::string, std::string>> config_flags;
  std::string socket_path;
};

int examine(const Context& context, const DoctorOptions& options);

}  // namespace run_recorder
