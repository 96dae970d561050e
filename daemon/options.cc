#include "options.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/result.h"
#include "base/url.h"
#include "config/config.h"

namespace run_recorder {
namespace {

Action action_of(const std::vector<std::string>& arguments) {
  const auto has = [&](std::string_view flag) { return std::ranges::find(arguments, flag) != arguments.end(); };
  if (has("--help") || has("-h")) return Action::kHelp;
  if (has("--version")) return Action::kVersion;
  if (has("--print")) {
    if (has("--check") || has("--check-config") || has("--drain") || has("--restore") || has("--adopt-spool"))
      throw StartError(kExitUsage, "--print goes with --migrate only");
    return Action::kPrintMigrations;
  }
  const int actions = has("--check") + has("--check-config") + has("--migrate") + has("--drain") + has("--restore") +
                      has("--adopt-spool");
  if (actions > 1) {
    throw StartError(kExitUsage,
                     "--check, --check-config, --migrate, --drain, --restore and --adopt-spool exclude each other");
  }
  if (has("--check")) return Action::kCheck;
  if (has("--check-config")) return Action::kCheckConfig;
  if (has("--migrate")) return Action::kMigrate;
  if (has("--drain")) return Action::kDrain;
  if (has("--restore")) return Action::kRestore;
  if (has("--adopt-spool")) return Action::kAdoptSpool;
  return Action::kServe;
}

}  // namespace

DaemonOptions parse_arguments(std::vector<std::string> arguments) {
  DaemonOptions options;
  auto flags = take_config_flags(arguments);
  if (!flags) throw StartError(kExitUsage, flags.error().message);
  options.config_flags = std::move(flags.value());
  static constexpr std::string_view kKnown[] = {"--help",    "-h",      "--version", "--check",   "--check-config",
                                                "--migrate", "--print", "--drain",   "--restore", "--adopt-spool"};
  for (const std::string& argument : arguments) {
    if (std::ranges::find(kKnown, argument) == std::end(kKnown)) {
      throw StartError(kExitUsage, fmt::format("unknown argument {}; run-recorderd --help lists what is allowed",
                                               argument_for_message(argument)));
    }
    if (std::ranges::count(arguments, argument) > 1) throw StartError(kExitUsage, argument + ": given twice");
  }
  options.action = action_of(arguments);
  return options;
}

std::string help_text() {
  return R"(run-recorderd: records what background jobs did, and finds the ones that silently died.

Usage: run-recorderd [ACTION] [--config FILE] [--SECTION-KEY VALUE]...

Without an action it serves until SIGTERM; with one it exits when that is done. Actions:
  --check        Check the configuration, the database, the queue and the spool; change nothing
  --check-config Check the configuration alone, as a reload would read it; change nothing
  --migrate      Bring the database's schema up to date
  --print        Print the SQL of all migrations, alone or with --migrate
  --drain        Apply what is in the spool; exit 0 only when it is empty
  --restore      Replace the SQLite database with the copy on standard input; the one before is kept
  --adopt-spool  Let a spool that was moved here from another machine keep its recorder id
  --version      Print the version
  --help         Print this help

Exit status: 0 done, 2 usage, 78 configuration, 69 something needed is not there, 1 anything else.

Settings, each also as RUN_RECORDER_SECTION_KEY or in the file:
)" + config_help();
}

}  // namespace run_recorder
