// A command of the tool is one record, defined beside its code and named in the table of commands.cc: its name, its
// help, its flags and what it does. The parser, --help and the manual follow from the records. One thread.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/context.h"
#include "cli/event_socket.h"
#include "cli/flags.h"
#include "config/config.h"

namespace run_recorder {

// The keys that commands need of the configuration.
inline constexpr std::string_view kSocketPathKey = "socket.path";
inline constexpr std::string_view kControlPathKey = "control.path";
inline constexpr std::string_view kSpoolPathKey = "spool.path";

// What all commands share: what stood on the command line besides a command's own flags, and the environment.
struct Invocation {
  std::vector<std::pair<std::string, std::string>> config_flags;
  Environment environment;
  std::string socket, control;  // --socket, --control; empty: as configured
  bool json = false;
  std::vector<std::string> command;  // of a command that wraps one

  // The configuration as the tool reads it; any mistake is an error.
  LoadedConfig load() const;
  // The same for a command that needs this key alone ("socket.path"): a mistake elsewhere is one of the warnings, but
  // for the flags'. Nothing is needed where --socket or --control says it.
  LoadedConfig load_for(std::string_view key) const;
  // The same, with its warnings said; throws StartError where it is wrong. A command asks once.
  Config configuration(std::string_view key) const;
  std::string socket_path(const Config& config) const;
  // The same for one that sends, of load_for(kSocketPathKey); a configuration that failed is taken for none.
  EventSocket event_socket(const LoadedConfig& config) const;
  std::string control_path(const Config& config) const;
  // For a command that asks the daemon.
  Context context() const;

 private:
  ConfigSources sources() const;
  // As a flag or the environment has it; empty where neither does.
  std::string socket_path_beside_file() const;
};

// Does it, and returns the exit status. Throws StartError where there is nothing to do.
using Handler = std::function<int(const Invocation&)>;

struct Command {
  const char* name;
  const char* help;  // one line
  // Declares the flags; the handler that it returns owns their values. Null for a group of commands.
  Handler (*declare)(Flags flags);
  const char* more = "";  // what --help says behind the flags, instead of what it says for all
  std::span<const Command> commands = {};
  bool wraps_command = false;  // takes a command, which the parser never sees
};

// All of them, in the order of --help.
std::span<const Command* const> commands();

}  // namespace run_recorder
