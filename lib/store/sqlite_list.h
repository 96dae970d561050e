// The statements of lists of runs in SQLite, of which every one names the index that it reads. For the SQLite
// adapter's files and for the test that looks at their plans. Pure, thread-safe.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/paging.h"
#include "store/store.h"

namespace run_recorder {

// A part of the table as what stands behind FROM, with a condition; {{prefix}} for the prefix, a ? for each text.
struct SqliteSource {
  std::string from;
  std::vector<std::string> texts = {};
  bool is_scattered = false;  // its rows in the list's order are not near each other
};
// What names few rows of a filter's, in the order of how few they are likely to be: none gives more than kFewRows
// + 1.
std::vector<SqliteSource> sqlite_accesses(const RunFilter& filter);
// All running rows, where they are few; else some of them.
SqliteSource sqlite_running_rows();
// Parts that have all rows of the filter's statuses, each in the list's order by an index. Running rows may be few.
std::vector<SqliteSource> sqlite_parts_in_order(const RunFilter& filter, bool running_is_few);

// Rows with their moment, run_id and whether they fit the filter, in the list's order.
struct SqliteWalk {
  std::string sql;
  std::vector<std::string> texts;
};
SqliteWalk sqlite_walk(std::span<const SqliteSource> sources, const RunFilter& filter,
                       const std::optional<PagePlace>& after);

}  // namespace run_recorder
