#include "base/nearest_name.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace run_recorder {
namespace {

constexpr std::size_t kLongestName = 100;

// Levenshtein's distance.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view mistyped, std::span<const std::string> known) {
  std::string nearest;
  if (mistyped.size() > kLongestName) return nearest;
  std::size_t least = 1 + std::max<std::size_t>(2, mistyped.size() / 4);
  for (const std::string& name : known) {
    const std::size_t steps = distance(mistyped, name);
    if (steps < least) {
      least = steps;
      nearest = name;
    }
  }
  return nearest;
}

std::string did_you_mean(std::string_view mistyped, std::span<const std::string> known) {
  const std::string nearest = nearest_name(mistyped, known);
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

}  // namespace run_recorder
