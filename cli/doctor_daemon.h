// What `doctor` asks of a running daemon: its sockets, its status, its clock. One thread.
#pragma once

#include <string>

#include "cli/context.h"
#include "cli/doctor_report.h"

namespace run_recorder {

// Whether it can be connected to.
bool check_socket(DoctorReport& report, const std::string& check, const std::string& path);
// Whether the database is up.
bool check_daemon(DoctorReport& report, const Context& context);
// Precondition: the database is up.
void check_clock(DoctorReport& report, const Context& context);

}  // namespace run_recorder
