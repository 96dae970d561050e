#include <algorithm>

#include "protocol/protocol.h"

namespace run_recorder {

TypeFilter::TypeFilter(std::span<const std::string> exclude, std::span<const std::string> include)
    : exclude_(exclude.begin(), exclude.end()), include_(include.begin(), include.end()) {}

bool TypeFilter::keeps(const Event& event) const {
  const auto contains = [&](const std::vector<std::string>& types) {
    return std::find(types.begin(), types.end(), event.type) != types.end();
  };
  if (is_lifecycle(event.kind)) return true;
  if (!include_.empty()) return contains(include_);
  return !contains(exclude_);
}

}  // namespace run_recorder
