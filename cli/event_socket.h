// The event socket as a command that sends found it. One thread.
#pragma once

#include <string>

namespace run_recorder {

struct EventSocket {
  std::string path;
  // The configuration file that says the path, also by naming none; empty: a flag or the environment says it.
  std::string config_file;
  bool assumed = false;  // that file cannot be read or is no TOML: it may name another path
};

}  // namespace run_recorder
