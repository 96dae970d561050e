// Pages of lists in PostgreSQL: a result is in our memory as a whole before its first row can be read, so the server
// does the bounding. For the PostgreSQL adapter's files. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <pqxx/pqxx>
#include <string>
#include <string_view>

#include "store/columns.h"
#include "store/paging.h"

namespace run_recorder {

// page_sql() weighs all rows that it is asked for, and where they are large that is work for nothing: a page is asked
// for in parts that grow.
inline constexpr std::size_t kFirstPart = 8;
inline constexpr std::size_t kGrowth = 4;

// What a row's JSON weighs on a page, of runs as r: the same as bytes_of() what was read.
std::string weight_sql(RunParts parts);

// A page of a list, bounded by rows and by bytes. `inner` selects limit + 1 rows, the last of its columns named
// weight; `order` names the columns that order the page. The last column of the result says whether there is more.
std::string page_sql(std::string_view inner, std::string_view order);

// How many rows of a page_sql() result are the page, and whether there are more behind it.
struct PageEnd {
  std::size_t rows = 0;
  bool more = false;
};
PageEnd end_of_page(const pqxx::result& rows, std::size_t limit);

// Cursors outlive the statement that made them; a time that PostgreSQL cannot read must not look like bad data.
bool fits_time_cursor(const PagePlace& place);

}  // namespace run_recorder
