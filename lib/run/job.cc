#include "run/job.h"

#include <charconv>

namespace run_recorder {

std::optional<std::int64_t> job_number(std::string_view job_id) {
  std::int64_t number = 0;
  const char* const end = job_id.data() + job_id.size();
  const auto [read, code] = std::from_chars(job_id.data(), end, number);
  if (code != std::errc{} || read != end || number < 1 || job_id.front() == '0') return std::nullopt;
  return number;
}

}  // namespace run_recorder
