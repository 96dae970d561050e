#include "store/sqlite_rows.h"

namespace run_recorder {
namespace {

constexpr std::string_view kVersion =
    "CASE WHEN r.last_seq > 0 THEN r.last_seq ELSE (SELECT coalesce(max(h.seq), 0) FROM \"{{prefix}}run_events\" h "
    "WHERE h.run_id = r.run_id) END";

void append(std::string& list, std::string_view value) {
  if (!list.empty()) list += ", ";
  list += value;
}

}  // namespace

std::string run_list(RunParts parts) {
  std::string list;
  for (const RunColumn& column : run_columns()) {
    if (!column.in(parts)) continue;
    std::string value = "r." + std::string(column.name);
    if (column.name == "last_seq") value = kVersion;
    // typeof() reads a row's header only, not the pages that a long text lies on.
    if (column.unloadable() && parts == RunParts::kToDecide) value = "typeof(" + value + ") <> 'null'";
    append(list, value);
  }
  return list;
}

std::string history_list() {
  std::string list;
  for (const HistoryColumn& column : history_columns()) append(list, column.name);
  return list;
}

std::size_t weight_of(const Run& run) {
  return sizeof(Run) + bytes_of(run, true);
}

}  // namespace run_recorder
