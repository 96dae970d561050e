// `run-recorder prune`: removes finished runs whose time is over. Returns the exit status.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"

namespace run_recorder {

struct PruneOptions {
  bool dry_run = false;
  std::vector<std::string> statuses;
  std::optional<std::string> council, older_than;
};

int prune(const Context& context, const PruneOptions& options);

}  // namespace run_recorder
