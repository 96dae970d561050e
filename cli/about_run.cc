#include "cli/about_run.h"

#include "cli/text.h"

namespace run_recorder {

std::string run_path(const std::string& run_id, std::string_view what) {
  return "/v1/runs/" + percent_encoded(run_id) + std::string(what);
}

}  // namespace run_recorder
