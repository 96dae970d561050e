#include "cli/own_place.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/account.h"
#include "base/file.h"
#include "base/utf8.h"
#include "cli/text.h"
#include "run/names.h"

namespace run_recorder {
namespace {

constexpr std::size_t kMaxCgroupBytes = std::size_t{64} << 10;

// The units that processes run in (systemd.unit(5)).
bool is_unit(std::string_view name) {
  constexpr std::string_view kTypes[] = {".service", ".scope", ".socket", ".mount", ".swap"};
  return std::ranges::any_of(
      kTypes, [name](std::string_view type) { return name.size() > type.size() && name.ends_with(type); });
}

std::optional<std::string> if_fits(std::string text, std::size_t max_bytes) {
  if (text.empty() || text.size() > max_bytes || !valid_utf8(text)) return std::nullopt;
  return text;
}

std::optional<std::string> own_folder() {
  std::error_code gone;
  const std::string folder = std::filesystem::current_path(gone).string();
  // Outside of this process's root directory it is "(unreachable)/…".
  return folder.starts_with('/') ? if_fits(folder, kMaxCommandBytes) : std::nullopt;
}

}  // namespace

std::optional<std::string> systemd_unit_of(std::string_view cgroups) {
  std::optional<std::string> unit;
  for (const std::string& line : lines_of(cgroups)) {
    // NUMBER:CONTROLLERS:PATH; systemd's own hierarchy, or the only one.
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers != "name=systemd") continue;
    for (std::string name : lines_of(std::string_view(line).substr(second + 1), '/')) {
      // systemd writes an underscore before a name that could be taken for a file of the cgroup.
      if (name.starts_with('_')) name.erase(0, 1);
      if (!is_unit(name)) continue;
      // Below a user's manager there are the user's own units; below any other one what it divides itself into.
      const bool of_user = name.starts_with("user@") && name.ends_with(".service");
      unit = if_fits(std::move(name), kMaxNameBytes);
      if (!of_user) break;
    }
    if (!controllers.empty()) break;
  }
  return unit;
}

std::optional<std::string> own_host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? if_fits(name, kMaxNameBytes) : std::nullopt;
}

OwnPlace own_place() {
  const Result<std::string> cgroups = read_file("/proc/self/cgroup", kMaxCgroupBytes);
  return {.unit = cgroups ? systemd_unit_of(*cgroups) : std::nullopt,
          .user = if_fits(user_name(::geteuid()), kMaxNameBytes),
          .cwd = own_folder()};
}

}  // namespace run_recorder
