#include "cli/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/socket_path.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {

ConfigSources Invocation::sources() const {
  ConfigSources sources;
  sources.flags = config_flags;
  sources.environment = environment;
  sources.uid = ::geteuid();
  sources.for_tool = true;
  return sources;
}

LoadedConfig Invocation::load() const {
  return load_config(sources());
}

LoadedConfig Invocation::load_for(std::string_view key) const {
  const bool of_socket = key == kSocketPathKey;
  const bool of_control = key == kControlPathKey;
  ConfigSources tolerant = sources();
  tolerant.needed_keys.emplace();
  const bool given = (of_socket && !socket.empty()) || (of_control && !control.empty());
  if (!given) tolerant.needed_keys->emplace_back(key);
  LoadedConfig config = load_config(tolerant);
  if (!config || config->mistakes.empty()) return config;
  const std::string path = of_socket ? socket_path(*config) : of_control ? control_path(*config) : config->spool.path;
  const std::size_t more = config->mistakes.size() - 1;
  config->warnings.push_back(fmt::format(
      "the daemon would not start with this configuration: {}{}; using {}", config->mistakes.front(),
      more == 0 ? "" : fmt::format(" (and {}, see run-recorder doctor)", count_of(more, "more mistake")), path));
  return config;
}

Config Invocation::configuration(std::string_view key) const {
  LoadedConfig config = load_for(key);
  if (config) {
    for (const std::string& warning : config->warnings) complain(warning);
  }
  return std::move(config).value();
}

std::string Invocation::socket_path(const Config& config) const {
  return socket.empty() ? client_socket_path(config, environment) : socket;
}

std::string Invocation::socket_path_beside_file() const {
  const auto keys = config_keys();
  const auto key = std::ranges::find_if(keys, [](const ConfigKey& one) { return one.full_name() == kSocketPathKey; });
  for (const auto& [flag, value] : config_flags) {
    if (flag == key->flag()) return value;
  }
  const auto variable = environment.find(key->variable());
  return variable == environment.end() ? std::string() : variable->second;
}

EventSocket Invocation::event_socket(const LoadedConfig& config) const {
  const Config known = config ? *config : Config();
  const std::string said = socket.empty() ? socket_path_beside_file() : socket;
  if (!said.empty()) {
    const bool usable = config || (said.starts_with('/') && said.size() <= kMaxSocketPathBytes);
    return {config || !usable ? socket_path(known) : said, {}, false};
  }
  std::error_code ignored;
  return {socket_path(known), std::filesystem::absolute(chosen_config_file(sources()), ignored).string(),
          !config || config->file_unread};
}

std::string Invocation::control_path(const Config& config) const {
  return control.empty() ? client_control_path(config, environment) : control;
}

Context Invocation::context() const {
  return {ControlClient(control_path(configuration(kControlPathKey))), json};
}

}  // namespace run_recorder
