// The rows of a line of an export (move.h) from JSON, as row_json.h writes them. Each takes a slice of valid JSON.
// kInvalid names the first member that does not fit, with what is allowed; row then has what was read of the others.
// Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/store.h"

namespace run_recorder {

// A line that is a part of a large run's history, but for its events.
struct HistoryPart {
  std::string run_id;
  bool withdrawn = false;
};

Result<void> read_row(std::string_view object, Run& row);
Result<void> read_row(std::string_view line, HistoryPart& row);
Result<void> read_row(std::string_view object, ReconciliationRow& row);
Result<void> read_row(std::string_view object, DeadLetter& row);
Result<void> read_row(std::string_view object, RecorderRow& row);
// A list of the history's entries of a run, in their order and without a gap between them.
Result<std::vector<StoredEvent>> read_events(std::string_view list, std::string_view run_id);
Result<std::vector<PrunedRun>> read_pruned(std::string_view list);

}  // namespace run_recorder
