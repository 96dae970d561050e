// run-recorderd: see options.cc for what it can be asked to do. Start-up failures end here, with the exit status of
// contract section 7.
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <thread>

#include "actions.h"
#include "base/log.h"
#include "base/standard_streams.h"
#include "base/url.h"
#include "base/utf8.h"
#include "config/config.h"
#include "options.h"
#include "owner.h"
#include "service.h"
#include "service_manager.h"
#include "signals.h"

namespace run_recorder {
namespace {

// Batches and pages are made and freed many times a second, each by a thread of its own. glibc would give their
// memory back to the kernel and take it again each time, page by page; a bounded rest is kept instead, in two arenas.
void keep_some_freed_memory() {
  constexpr int kLargestOfTheHeap = 512 << 10;
  constexpr int kKeptOfEachHeap = 4 << 20;
  constexpr int kArenas = 2;
  mallopt(M_MMAP_THRESHOLD, kLargestOfTheHeap);
  mallopt(M_TRIM_THRESHOLD, kKeptOfEachHeap);
  mallopt(M_ARENA_MAX, kArenas);
}

// What ends the start, on one line.
void complain(std::string_view what) {
  fmt::print(stderr, "run-recorderd: {}\n", printable(hide_passwords(what)));
}

int serve(Config config, ConfigSources sources, const std::string& acting, Signals& signals) {
  set_up_log(config.log_options());
  const LogWriter log_writer;
  if (!acting.empty()) log_info(acting);
  for (const std::string& note : config.notes) log_warning(note);
  for (const std::string& warning : config.warnings) log_warning(warning);
  try {
    return Service(std::move(config), std::move(sources)).run(signals);
  } catch (const StartError& error) {
    log_error(hide_passwords(error.what()));
    return error.exit_status();
  }
}

// Of the configuration, each on a line of its own; in the journal as errors.
void tell(const ConfigProblems& problems) {
  set_up_log({});
  for (const ConfigProblem& problem : problems.all) {
    if (log_is_journal()) {
      log_error(problem.text());
    } else {
      fmt::print(stderr, "{}\n", problem.text());
    }
  }
}

// At boot a directory service may come up later than this daemon, and the users and groups it knows with it. Where a
// service manager started us, they are waited for, for a while; its restarts do the rest.
LoadedConfig load_once_names_are_known(const ConfigSources& sources) {
  constexpr std::chrono::seconds kPatience{30};
  constexpr std::chrono::milliseconds kPause{500};
  LoadedConfig config = load_config(sources);
  if (config || !config.error().only_unknown_names() || !service_manager_listens()) return config;
  tell(config.error());
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!config && config.error().only_unknown_names() && std::chrono::steady_clock::now() < give_up) {
    notify_status("waiting for the host to know a name: " + config.error().all.front().text());
    notify_extend_timeout(kPatience);
    std::this_thread::sleep_for(kPause);
    config = load_config(sources);
  }
  return config;
}

int act(Action action, const Config& config) {
  if (action == Action::kCheck) return check(config);
  // Tables of PostgreSQL may well be made by somebody who has nothing to do with the spool.
  const bool own_files = action != Action::kMigrate || database_kind(config.database.url) == DatabaseKind::kSqlite;
  if (own_files) require_usable_files(config);
  if (action == Action::kAdoptSpool) return adopt_spool(config);
  if (action == Action::kMigrate) return migrate_database(config);
  if (action == Action::kRestore) return restore_database(config);
  Signals signals;
  set_up_log(config.log_options());
  const LogWriter log_writer;
  return drain(config, signals);
}

int run(int argc, char** argv) {
  keep_some_freed_memory();
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  hide_passwords_in_arguments(argc, argv);
  const DaemonOptions options = parse_arguments(arguments);
  if (options.action == Action::kHelp) return fmt::print("{}", help_text()), kExitDone;
  if (options.action == Action::kVersion) return fmt::print("run-recorderd {}\n", RR_VERSION), kExitDone;

  ConfigSources sources;
  sources.flags = options.config_flags;
  sources.environment = environment_of(environ);
  sources.uid = geteuid();
  const bool serves = options.action == Action::kServe;
  sources.without_sockets = !serves && options.action != Action::kCheckConfig;
  auto config = serves ? load_once_names_are_known(sources) : load_config(sources);
  if (config && (sources.acting_as = whom_to_act_as(config.value()))) config = load_config(sources);
  if (!config) {
    tell(config.error());
    return config.error().exit_status();
  }
  if (options.action == Action::kCheckConfig) return check_config(config.value());
  if (options.action == Action::kPrintMigrations) return print_migrations(config.value());
  std::string acting;
  if (sources.acting_as) acting = act_as(*sources.acting_as, config.value(), serves, arguments);
  if (serves) {
    require_usable_files(config.value());
    Signals signals;
    return serve(std::move(config.value()), std::move(sources), acting, signals);
  }
  if (!acting.empty()) complain(acting);
  return act(options.action, config.value());
}

}  // namespace
}  // namespace run_recorder

int main(int argc, char** argv) {
  using namespace run_recorder;
  open_standard_streams();
  try {
    return run(argc, argv);
  } catch (const StartError& error) {
    complain(error.what());
    return error.exit_status();
  } catch (const std::exception& error) {
    complain(error.what());
    return kExitOther;
  }
}
