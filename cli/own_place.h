// Where this process runs, and as whom: what `exec` tells of its runs beside their command. One thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace run_recorder {

struct OwnPlace {
  std::optional<std::string> unit, user, cwd;  // those that an event may have, as far as they are known
};
// May ask the host's name services.
OwnPlace own_place();

// The systemd unit of a process by its /proc/PID/cgroup (cgroups(7)): the innermost of its path. Pure.
std::optional<std::string> systemd_unit_of(std::string_view cgroups);

// As an event may have it.
std::optional<std::string> own_host_name();

}  // namespace run_recorder
