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
  std::optional<std::string> council, job, queue, pass;
  std::optional<std::int64_t> oban_job_id;
  std::optional<Timestamp> since, until;
  std::uint64_t limit = 50;

  void declare(Flags& flags);  // the filters; the limit is the command's own
  Target target() const;
};

// "2026-01-02T03:04:05Z", or a duration before now: "1h", "30m ago".
std::optional<Timestamp> parse_since(std::string_view text, Timestamp now);

}  // namespace run_recorder
