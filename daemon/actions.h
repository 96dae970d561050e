// What the daemon does instead of serving: --check, --check-config, --migrate, --print, --drain, --restore,
// --adopt-spool. Each returns the exit status and says on stdout what it found; StartError is main's. For the main
// thread.
#pragma once

#include "config/config.h"
#include "signals.h"

namespace run_recorder {

int check(const Config& config);
int check_config(const Config& config);
int migrate_database(const Config& config);
int print_migrations(const Config& config);
int drain(const Config& config, Signals& signals);
int adopt_spool(const Config& config);
// Replaces the SQLite database with the copy on standard input, and keeps the one before (restore.cc).
int restore_database(const Config& config);

}  // namespace run_recorder
