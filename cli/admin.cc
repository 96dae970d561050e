// `run-recorder admin`: what an administrator does with the daemon's spool and database, each as one command that
// finds the service's user, folders, environment and credential by itself.
#include <fmt/format.h>

#include <array>
#include <memory>

#include "cli/admin_actions.h"
#include "cli/admin_daemon.h"
#include "cli/command.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

int check_installation(const Invocation& invocation) {
  const AdministeredDaemon daemon(invocation, "check");
  return daemon.run(daemon.call({"--check"}));
}

int migrate_installation(const Invocation& invocation, bool only_print) {
  const AdministeredDaemon daemon(invocation, "migrate");
  return daemon.run(daemon.call({only_print ? "--print" : "--migrate"}));
}

int drain_installation(const Invocation& invocation, bool start_again) {
  const AdministeredDaemon daemon(invocation, "drain");
  if (start_again && !daemon.is_service()) {
    throw StartError(kExitUsage, "--start: there is no service to start; start this daemon as you usually do");
  }
  catch_interrupts();
  daemon.stop();
  const int status = daemon.run(daemon.call({"--drain"}));
  if (!daemon.is_service()) return status;
  if (start_again) {
    daemon.start({true, true});
  } else {
    print(fmt::format("the service and its socket are stopped; to start them: {}\n",
                      AdministeredDaemon::start_command()));
  }
  return status;
}

Handler declare_check(Flags) {
  return check_installation;
}

Handler declare_migrate(Flags flags) {
  const auto only_print = std::make_shared<bool>(false);
  flags.on("--print", *only_print, "Print the SQL of all migrations instead");
  return [only_print](const Invocation& invocation) { return migrate_installation(invocation, *only_print); };
}

Handler declare_drain(Flags flags) {
  const auto start_again = std::make_shared<bool>(false);
  flags.on("--start", *start_again, "Start service and socket again afterwards");
  return [start_again](const Invocation& invocation) { return drain_installation(invocation, *start_again); };
}

Handler declare_restore(Flags flags) {
  const auto file = std::make_shared<std::string>();
  flags.operand("file", *file, "A copy of the SQLite database, as its .backup makes it");
  return [file](const Invocation& invocation) { return restore_installation(invocation, *file); };
}

Handler declare_move(Flags flags) {
  const auto to = std::make_shared<std::string>();
  flags.text("--to", *to, "Where everything goes: sqlite:PATH or a libpq URI", "URL");
  return [to](const Invocation& invocation) { return move_installation(invocation, *to); };
}

constexpr std::array kActions = {
    Command{"check", "Check configuration, database, queue and spool as the service sees them", declare_check},
    Command{"drain", "Stop the service and apply what is in its spool", declare_drain},
    Command{"migrate", "Bring the database's schema up to date", declare_migrate},
    Command{"move", "Move everything to another database, with the service stopped", declare_move},
    Command{"restore", "Put a copy of the SQLite database in its place", declare_restore}};

}  // namespace

extern const Command kAdminCommand = {
    "admin", "Check, drain, migrate, move and restore, as root", nullptr,
    "Each works on the service of this machine, as its user and with its folders, environment and credential; without "
    "systemd, or for a daemon of one's own, on the one that the configuration describes.",
    kActions};

}  // namespace run_recorder
