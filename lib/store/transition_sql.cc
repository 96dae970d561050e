#include "store/transition_sql.h"

#include <fmt/format.h>

#include <cassert>

namespace run_recorder {

std::string sql_list(std::span<const Status> statuses) {
  std::string list;
  for (const Status status : statuses) list += fmt::format("{}'{}'", list.empty() ? "" : ", ", to_string(status));
  return list;
}

std::string judged_rows(Status status) {
  assert(status == Status::kQueued || status == Status::kRunning);
  return fmt::format("r.status = '{}'{}", to_string(status),
                     status == Status::kQueued ? " AND (r.oban_job_id IS NOT NULL OR r.job_id IS NOT NULL)" : "");
}

std::string assignment(std::string_view column, Write write, std::string_view now, std::string_view given) {
  switch (write) {
    case Write::kKeep:
      return {};
    case Write::kClear:
      return fmt::format(", {} = NULL", column);
    case Write::kNow:
      assert(!now.empty());
      return fmt::format(", {} = {}", column, now);
    case Write::kGiven:
      assert(!given.empty());
      return fmt::format(", {} = {}", column, given);
  }
  return {};
}

}  // namespace run_recorder
