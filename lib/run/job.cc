#include "run/job.h"

#include "base/number.h"

namespace run_recorder {

std::optional<std::int64_t> job_number(std::string_view job_id) {
  const auto number = parse_number<std::int64_t>(job_id);
  return number >= 1 && job_id.front() != '0' ? number : std::nullopt;
}

}  // namespace run_recorder
