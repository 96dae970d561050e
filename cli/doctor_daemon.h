// What `doctor` asks of a running daemon: its sockets, its status, its clock. One thread.
#pragma once

#include <string>
#include <string_view>

#include "cli/context.h"
#include "cli/doctor_report.h"

namespace run_recorder {

// Whether it can be connected to.
bool check_socket(DoctorReport& report, const std::string& check, const std::string& path);
// What to do about a database that is not up.
inline constexpr std::string_view kDatabaseAdvice =
    "events wait in the spool meanwhile; repair what it says. run-recorder admin migrate makes the tables, and "
    "docs/operations.md lists the rights that are needed";

// What the daemon says of itself, for the checks that follow.
struct SeenDaemon {
  bool answers = false;
  bool database_up = false;
  std::string spool_path;    // empty where it does not say
  std::string database_url;  // without its password
};
// Asks the daemon how it is, and reports it, its database's own error included.
SeenDaemon check_daemon(DoctorReport& report, const Context& context);
// Compares the clocks of this host and of the database, through the daemon.
void check_clock(DoctorReport& report, const Context& context, const SeenDaemon& daemon);

}  // namespace run_recorder
