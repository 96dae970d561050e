// Where things are when nothing is configured (systemd.exec(5), the XDG Base Directory Specification), and where the
// command-line tool finds the daemon.
#include <sys/stat.h>

#include "config/config_table.h"

namespace run_recorder {
namespace {

constexpr std::string_view kName = "run-recorder";

// Empty where the variable is unset, or not absolute: such values are to be ignored (XDG), and systemd gives none.
std::string folder_variable(const Environment& environment, const std::string& name) {
  const auto at = environment.find(name);
  if (at == environment.end() || !at->second.starts_with('/')) return {};
  return at->second;
}

// systemd joins several folders by colons; the first is the unit's own by convention.
std::string first_folder(const std::string& folders) {
  return folders.substr(0, folders.find(':'));
}

std::string below(const std::string& folder, std::string_view name) {
  if (folder.empty()) return {};
  return folder + (folder.ends_with('/') ? "" : "/") + std::string(name);
}

bool is_socket(const std::string& path) {
  struct stat found {};
  return !path.empty() && stat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode);
}

bool belongs_to(const std::string& folder, uid_t uid) {
  struct stat found {};
  return stat(folder.c_str(), &found) == 0 && found.st_uid == uid;
}

std::string client_path(const std::string& path, bool given, const Environment& environment, std::string_view name) {
  if (given) return path;
  const std::string own = below(below(folder_variable(environment, "XDG_RUNTIME_DIR"), kName), name);
  return is_socket(own) ? own : below(SystemPlaces().runtime, name);
}

}  // namespace

DefaultFolders default_folders(const Environment& environment, uid_t uid, const SystemPlaces& places) {
  // By hand (su, cron) the service's user has nothing of what systemd gives the service.
  const bool of_service = uid == 0 || belongs_to(places.state, uid);
  DefaultFolders folders;
  folders.runtime = first_folder(folder_variable(environment, "RUNTIME_DIRECTORY"));
  if (folders.runtime.empty() && of_service) folders.runtime = places.runtime;
  if (folders.runtime.empty()) folders.runtime = below(folder_variable(environment, "XDG_RUNTIME_DIR"), kName);

  folders.state = first_folder(folder_variable(environment, "STATE_DIRECTORY"));
  if (folders.state.empty() && of_service) folders.state = places.state;
  if (folders.state.empty()) folders.state = below(folder_variable(environment, "XDG_STATE_HOME"), kName);
  if (folders.state.empty()) {
    folders.state = below(below(folder_variable(environment, "HOME"), ".local/state"), kName);
  }
  return folders;
}

std::string client_socket_path(const Config& config, const Environment& environment) {
  return client_path(config.socket.path, config.socket.path_given, environment, "events.sock");
}

std::string client_control_path(const Config& config, const Environment& environment) {
  return client_path(config.control.path, config.control.path_given, environment, "control.sock");
}

}  // namespace run_recorder
