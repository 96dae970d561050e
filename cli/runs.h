// `run-recorder list`, `show`, `events`, `chain` and `explain`. Each returns the exit status.
#pragma once

#include <cstdint>
#include <string>

#include "cli/looking.h"

namespace run_recorder {

int list_runs(const Looking& looking, const RunQuery& query, RunWidth width);
int show_run(const Looking& looking, const std::string& run_id);
int list_events(const Looking& looking, const std::string& run_id, std::uint64_t limit);
int show_chain(const Looking& looking, const std::string& run_id);
int explain_run(const Looking& looking, const std::string& run_id);

}  // namespace run_recorder
