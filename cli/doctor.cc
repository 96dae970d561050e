// `run-recorder doctor`: looks at an installation from where it stands, with or without a running daemon, and says of
// each thing whether it is fine and what to do where it is not. Returns the exit status: 0 where all is fine, else 1.
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/doctor_daemon.h"
#include "cli/doctor_local.h"
#include "cli/doctor_report.h"

namespace run_recorder {
namespace {

struct DoctorOptions {
  LoadedConfig config = ConfigProblems{};  // as the daemon would read it
  std::vector<std::pair<std::string, std::string>> config_flags;
  std::string socket_path;
};

// As the daemon would see them: its database and queues where it does not say itself, its spool and the disk.
void examine_files(DoctorReport& report, const DoctorOptions& options, const SeenDaemon& daemon) {
  const auto said = daemons_own_check(options.config_flags);
  if (said.empty()) report.wrong("run-recorderd", "it cannot be run", "install it beside run-recorder or in PATH");
  if (!daemon.answers) take_check(report, said, "database", std::string(kDatabaseAdvice));
  take_queues(report, said, *options.config);
  // Where a daemon runs, its own are meant, whatever this user's defaults are.
  Config config = *options.config;
  if (!daemon.spool_path.empty()) config.spool.path = daemon.spool_path;
  if (!daemon.database_url.empty()) config.database.url = daemon.database_url;
  check_spool_folder(report, config.spool.path, daemon.answers);
  check_owners(report, config);
  check_disk(report, config);
}

int examine(const Context& context, const DoctorOptions& options) {
  DoctorReport report;
  const bool configured = options.config.has_value();
  if (configured) {
    const Config& config = *options.config;
    report.fine("configuration", config.file.empty() ? "no file, defaults" : config.file);
    for (const std::string& note : config.notes) report.wrong("configuration", note, "run this as root");
    for (const std::string& warning : config.warnings) {
      report.warning("environment", warning, "nothing, where it is a service's; else correct the name");
    }
    for (const ExposedFile& file : exposed_files(config)) report.warning("secrets", file.found, file.advice);
  } else {
    for (const ConfigProblem& problem : options.config.error().all) {
      report.wrong("configuration", problem.text(),
                   problem.unknown_name ? "correct it, or bring up what knows that name; the daemon tries again"
                                        : "correct it; the daemon does not start with it");
    }
  }
  check_socket(report, "event socket", options.socket_path);
  const bool reachable = check_socket(report, "control socket", context.client.path());
  const SeenDaemon daemon = reachable ? check_daemon(report, context) : SeenDaemon();
  if (configured) examine_files(report, options, daemon);
  check_clock(report, context, daemon);
  if (context.json) {
    print_json(report.json());
  } else {
    print(report.for_people(terminal_of(1)));
  }
  return report.all_fine() ? kExitDone : kExitOther;
}

// Goes on with a broken configuration, which it reports, and with the usual places then.
int examine_installation(const Invocation& invocation) {
  ConfigSources sources;
  sources.flags = invocation.config_flags;
  sources.environment = invocation.environment;
  sources.uid = ::geteuid();
  sources.without_sockets = true;  // of a daemon that runs, perhaps somebody else's: that is looked for below
  DoctorOptions options{load_config(sources), invocation.config_flags, {}};
  const LoadedConfig paths = invocation.load_for(kControlPathKey);
  const Config config = paths ? *paths : Config();
  options.socket_path = invocation.socket_path(config);
  return examine({ControlClient(invocation.control_path(config)), invocation.json}, options);
}

}  // namespace

extern const Command kDoctorCommand = {
    "doctor", "Check this installation, with advice for each finding",
    [](Flags) { return Handler(examine_installation); },
    "Checks configuration, sockets, permissions, daemon, database, queue, spool, whose files they are, disk and "
    "clock; also without a "
    "running daemon. Best run as root or as the daemon's user. Exits 0 when all is fine, 1 when something is not."};

}  // namespace run_recorder
