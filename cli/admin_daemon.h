// The daemon that `admin` works on: the service of this machine as systemd knows it, or, without systemd or for a
// daemon of one's own, the one that the configuration describes. It is stopped, started and run with one action or
// another, always as its own user and with its own folders, environment and credential. One thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/program.h"
#include "config/config.h"

namespace run_recorder {

using Settings = std::vector<std::pair<std::string, std::string>>;

// run-recorderd, to be run once.
struct DaemonCall {
  ProgramCall program;
  std::string unit;  // the transient unit it runs as; empty: it is a child of this process
};

// What is other than the service has it.
struct DaemonChanges {
  Settings flags = {};            // {"--spool-path", PATH}; instead of what the service's command line says
  std::string folder = {};        // that it may write to besides its own
  Settings secrets = {};          // environment variables that nobody may see, and the flags they stand for
  std::string secrets_file = {};  // where they are written for a service: a file of root
};

class AdministeredDaemon {
 public:
  // Throws StartError (1), with the command to use, where this user may not do that action.
  AdministeredDaemon(const Invocation& invocation, const std::string& action);

  bool is_service() const { return service_.has_value(); }
  // As the daemon would read it. Throws StartError where it is wrong.
  Config config() const;
  // Whose the daemon's files are; empty: root's.
  std::optional<uid_t> user() const;

  // With these arguments.
  DaemonCall call(const std::vector<std::string>& arguments, const DaemonChanges& changes = {}) const;
  // Runs it before the eyes of whoever looks. Returns its exit status. Throws StartError where it cannot be run.
  int run(const DaemonCall& call) const;
  // Ends one that runs beside, and waits for it.
  void end(const DaemonCall& call, Program& program) const;

  struct Running {
    bool socket = false;
    bool service = false;
    bool any() const { return socket || service; }
  };
  // Stops the service and its socket and says what of them ran; nothing where there is no service. Throws StartError
  // where that fails.
  Running stop() const;
  void start(Running units) const;
  // "systemctl start …", for people.
  static std::string start_command();

 private:
  struct Service {
    std::vector<std::string> program;  // and its arguments that are no settings
    Settings flags;                    // settings of its command line
    Settings environment;
    std::vector<std::string> properties;  // as systemd-run takes them
    std::string user;
  };
  static std::optional<Service> find_service();
  DaemonCall in_unit(const Settings& environment, const std::vector<std::string>& properties,
                     const std::vector<std::string>& command) const;
  Environment services_environment() const;

  const Settings config_flags_;
  const Environment environment_;
  std::optional<Service> service_;
};

// From now on Ctrl-C and its like end what runs, and this process goes on to put things in order.
void catch_interrupts();
bool was_interrupted();

}  // namespace run_recorder
