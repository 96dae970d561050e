// `run-recorder list`, `show`, `events`, `chain` and `explain`. Each returns the exit status.
#pragma once

#include <cstdint>
#include <string>

#include "cli/context.h"
#include "cli/run_query.h"
#include "cli/run_view.h"

namespace run_recorder {

int list_runs(const Context& context, const RunQuery& query, RunWidth width);
int show_run(const Context& context, const std::string& run_id);
int list_events(const Context& context, const std::string& run_id, std::uint64_t limit);
int show_chain(const Context& context, const std::string& run_id);
int explain_run(const Context& context, const std::string& run_id);

}  // namespace run_recorder
