// The transitions of run/finding.h and the lists of run/status.h as both databases' statements have them. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "run/finding.h"

namespace run_recorder {

// The lease that a pass holds.

// 'completed', 'failed': for IN (…).
std::string sql_list(std::span<const Status> statuses);

// As the condition of a statement over runs r: the rows of that status which a pass judges; queued ones where they
// name a job, as the partial index has it.
std::string judged_rows(Status status);

// ", column = …" for a list of assignments; empty where the column is kept. now, given: expressions.
std::string assignment(std::string_view column, Write write, std::string_view now, std::string_view given = {});

}  // namespace run_recorder
