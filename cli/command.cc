#include "cli/command.h"

#include <unistd.h>

#include "cli/terminal.h"

namespace run_recorder {

LoadedConfig Invocation::load() const {
  ConfigSources sources;
  sources.flags = config_flags;
  sources.environment = environment;
  sources.uid = ::geteuid();
  sources.for_tool = true;
  return load_config(sources);
}

Config Invocation::configuration() const {
  LoadedConfig config = load();
  if (config) {
    for (const std::string& warning : config->warnings) complain(warning);
  }
  return std::move(config).value();
}

std::string Invocation::socket_path(const Config& config) const {
  return socket.empty() ? client_socket_path(config, environment) : socket;
}

std::string Invocation::control_path(const Config& config) const {
  return control.empty() ? client_control_path(config, environment) : control;
}

Context Invocation::context() const {
  return {ControlClient(control_path(configuration())), json};
}

}  // namespace run_recorder
