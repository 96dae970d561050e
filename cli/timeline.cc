#include "cli/timeline.h"

#include <algorithm>
#include <cmath>

namespace run_recorder {
namespace {

constexpr std::size_t kBarColumns = 24, kShortBarColumns = 12;
constexpr std::size_t kWideTerminal = 110;

}  // namespace

bool is_narrow(const Terminal& terminal) {
  return terminal.columns > 0 && terminal.columns < kWideTerminal;
}

Timeline::Timeline(const Terminal& terminal) : columns_(is_narrow(terminal) ? kShortBarColumns : kBarColumns) {}

void Timeline::include(const std::optional<Timestamp>& time) {
  if (!time) return;
  first_ = first_ ? std::min(*first_, *time) : *time;
  last_ = last_ ? std::max(*last_, *time) : *time;
}

std::string Timeline::draw(Timestamp from, Timestamp to) const {
  if (!first_ || *first_ == *last_) return {};
  const auto part = [&](Timestamp time) {
    return static_cast<double>((time - *first_).count()) / static_cast<double>((*last_ - *first_).count());
  };
  return bar(part(from), part(to), columns_);
}

std::string bar(double from, double to, std::size_t columns) {
  const auto position = [&](double part) {
    const double scaled = std::floor(std::clamp(part, 0.0, 1.0) * static_cast<double>(columns));
    return std::min(static_cast<std::size_t>(scaled), columns - 1);
  };
  const std::size_t first = position(from);
  const std::size_t last = std::max(first, position(to));
  std::string drawn;
  for (std::size_t i = 0; i < columns; ++i) drawn += i < first || i > last ? "·" : "█";
  return drawn;
}

}  // namespace run_recorder
