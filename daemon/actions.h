// What the daemon does instead of serving: --check, --migrate, --print, --drain. Each returns the exit status and
// says on stdout what it found; StartError is main's.
#pragma once

#include "base/config.h"
#include "signals.h"

namespace run_recorder {

int check(const Config& config);
int migrate_database(const Config& config);
int print_migrations(const Config& config);
int drain(const Config& config, Signals& signals);

}  // namespace run_recorder
