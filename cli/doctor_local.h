// What `doctor` finds out without a running daemon: run-recorderd's own check, the spool's folder, whose
// its files are, the disk under it.
// One thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/doctor_report.h"
#include "config/config.h"

namespace run_recorder {

// The lines of `run-recorderd --check` with these flags; empty where it cannot be run.
std::vector<std::string> daemons_own_check(const std::vector<std::pair<std::string, std::string>>& config_flags);
// What it says of one thing, as "database", "queue" or "queue mailers".
void take_check(DoctorReport& report, const std::vector<std::string>& said, const std::string& what,
                const std::string& advice);
// The same of each queue that is configured.
void take_queues(DoctorReport& report, const std::vector<std::string>& said, const Config& config);
// daemon_answers: a folder that is not to be seen from here is no finding then.
void check_spool_folder(DoctorReport& report, const std::string& path, bool daemon_answers);
// Owner and mode of each file in the spool, of the SQLite database, and of the folders they are in.
void check_owners(DoctorReport& report, const Config& config);
void check_disk(DoctorReport& report, const Config& config);

}  // namespace run_recorder
