#include "store/pg_page.h"

#include <fmt/format.h>

namespace run_recorder {

std::string weight_sql(RunParts parts) {
  std::string sum = "0";
  for (const RunColumn& column : run_columns()) {
    if (column.kind != ColumnKind::kJson || !column.in(parts)) continue;
    sum += fmt::format(" + coalesce(octet_length(r.{}::text), 0)", column.name);
  }
  return sum;
}

std::string page_sql(std::string_view inner, std::string_view order) {
  return fmt::format(
      "SELECT *, count(*) OVER () < total AS more FROM (SELECT p.*, count(*) OVER () AS total, row_number() OVER "
      "(ORDER BY "
      "{1}) AS place, sum(p.weight) OVER (ORDER BY {1} ROWS UNBOUNDED PRECEDING) - p.weight AS before FROM ({0}) p) "
      "q "
      "WHERE before <= {2} ORDER BY place",
      inner, order, kPageBytes);
}

PageEnd end_of_page(const pqxx::result& rows, std::size_t limit) {
  const auto count = static_cast<std::size_t>(rows.size());
  if (count > limit) return {limit, true};
  if (count == 0) return {};
  const pqxx::row last = rows[rows.size() - 1];
  return {count, last[last.size() - 1].c_str()[0] == 't'};
}

bool fits_time_cursor(const PagePlace& place) {
  return parse_rfc3339(place.time) && place.id.find('\0') == std::string::npos;
}

}  // namespace run_recorder
