#include "store/sqlite_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>

#include "store/transition_sql.h"

namespace run_recorder {
namespace {

constexpr std::string_view kVersion =
    "CASE WHEN r.last_seq > 0 THEN r.last_seq ELSE (SELECT coalesce(max(h.seq), 0) FROM \"{{prefix}}run_events\" h "
    "WHERE h.run_id = r.run_id) END";

void append(std::string& list, std::string_view value) {
  if (!list.empty()) list += ", ";
  list += value;
}

std::string parameters(std::ptrdiff_t count) {
  std::string list;
  for (std::ptrdiff_t i = 1; i <= count; ++i) append(list, fmt::format("?{}", i));
  return list;
}

template <class Column>
std::string insert_sql(std::string_view table, std::span<const Column> columns, const FilledColumns& fill) {
  std::string names;
  std::string filled = fill.values;
  int count = 0;
  for (const Column& column : columns) {
    if (column.group == ColumnGroup::kDatabase) continue;
    append(names, column.name);
    ++count;
    constexpr std::string_view kNow = "{{now}}";
    const auto now = column.name == "inserted_at" ? filled.find(kNow) : std::string::npos;
    if (now != std::string::npos) filled.replace(now, kNow.size(), fmt::format("?{}", count));
  }
  return fmt::format("INSERT INTO \"{{{{prefix}}}}{}\" ({}{}) VALUES ({}{})", table, fill.columns, names, filled,
                     parameters(count));
}

}  // namespace

std::string run_list(RunParts parts) {
  std::string list;
  for (const RunColumn& column : run_columns()) {
    if (!column.in(parts)) continue;
    std::string value = "r." + std::string(column.name);
    if (column.name == "last_seq") value = kVersion;
    // typeof() reads a row's header only, not the pages that a long text lies on.
    if (column.unloadable() && parts == RunParts::kToDecide) value = fmt::format("typeof({}) <> 'null'", value);
    append(list, value);
  }
  return list;
}

std::string history_list() {
  std::string list;
  for (const HistoryColumn& column : history_columns()) append(list, column.name);
  return list;
}

std::string parameters_for(std::string_view names) {
  return parameters(1 + std::ranges::count(names, ','));
}

// Only our own keys' conflicts are races; any other constraint is the database refusing the data.
std::string insert_run_sql(const FilledColumns& fill) {
  return insert_sql("runs", run_columns(), fill) + " ON CONFLICT (run_id) DO NOTHING";
}

std::string insert_event_sql(const FilledColumns& fill) {
  return insert_sql("run_events", history_columns(), fill) +
         " ON CONFLICT (run_id, seq) DO NOTHING ON CONFLICT (run_id, event_id) WHERE event_id IS NOT NULL DO NOTHING";
}

// What of the JSON was not loaded stays as it is, and a bare row's worker where no event named one. The guards: the
// version the decision was made from, that nothing leaves a finished status, and that a bare row (the last parameter)
// is a running one.
std::string update_run_sql(const RunChange& groups) {
  std::string sets;
  int number = 2;
  int status = 0;
  for (const RunColumn& column : run_columns()) {
    if (!writes(groups, column.group)) continue;
    ++number;
    if (column.unloadable()) {
      append(sets, fmt::format("{0} = CASE WHEN ?{1} THEN ?{2} ELSE {0} END", column.name, number, number + 1));
      ++number;
    } else if (column.name == "worker_process") {
      append(sets, fmt::format("{0} = coalesce(?{1}, {0})", column.name, number));
    } else {
      append(sets, fmt::format("{} = ?{}", column.name, number));
    }
    if (column.name == "status") status = number;
  }
  return fmt::format(
      "UPDATE \"{{{{prefix}}}}runs\" SET {} WHERE run_id = ?1 AND {} AND (status NOT IN ({}) OR status = ?{}) "
      "AND (NOT ?{} OR status = '{}')",
      sets, kSameVersion, sql_list(finished_statuses()), status, number + 1, to_string(Status::kRunning));
}

std::size_t weight_of(const Run& run) {
  return sizeof(Run) + bytes_of(run, true);
}

}  // namespace run_recorder
