// What the daemon tells systemd (sd_notify(3)). Every call is nothing where no service manager listens, and none
// waits for one that does not read. Thread-safe.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace run_recorder {

// Whether this process was started by a service manager that wants to be told.
bool service_manager_listens();
void notify_ready(const std::string& status);
void notify_status(const std::string& status);
void notify_reloading();
void notify_stopping(const std::string& status);
// Asks for more time than the unit allows, from now on.
void notify_extend_timeout(std::chrono::microseconds time);
void notify_watchdog();
// To be called now and then: that it is ready, reloads or stops is told again where the manager had no room for it.
void notify_again();
// How long systemd waits for notify_watchdog; empty: it does not.
std::optional<std::chrono::microseconds> watchdog_period();
// The one stream socket systemd passed on (sd_listen_fds(3)); -1: none. Throws StartError (69) for more than one.
int inherited_socket();

}  // namespace run_recorder
