// Which runs a command asks for: the filters of `list`, `watch` and `stats`. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "cli/control_client.h"
#include "cli/flags.h"

namespace run_recorder {

struct RunQuery {
  std::vector<std::string> statuses;
  std::optional<std::string> council, host, unit, user, job, queue, pass, longer_than, error;
  std::optional<std::int64_t> oban_job_id, exit_status;
  std::string by = "started";  // or "recorded"
  std::optional<Timestamp> since, until;
  std::uint64_t limit = 50;

  void declare(Flags& flags);  // the filters; the limit is the command's own
  // Makes the pass a whole id where only its beginning was given.
  Result<void> complete(const ControlClient& client);
  Target target() const;
};

// Whether a name is a pattern: with * or ?.
bool is_pattern(std::string_view name);
// Why there are no runs of this name, where there never were any; else empty.
std::string nobody_of_that_name(const ControlClient& client, const std::string& name);

}  // namespace run_recorder
