#include "process/ended_processes.h"

#include <algorithm>
#include <utility>

namespace run_recorder {

bool EndedProcesses::add(ProcessEnd end) {
  if (ends_.size() >= kMost) return false;
  const auto later = [](const ProcessEnd& a, const ProcessEnd& b) { return a.due < b.due; };
  const auto place = std::upper_bound(ends_.begin(), ends_.end(), end, later);  // as a rule at the end
  const bool first = place == ends_.begin();
  ends_.insert(place, std::move(end));
  return first;
}

std::vector<ProcessEnd> EndedProcesses::take_due(Clock::time_point now) {
  std::vector<ProcessEnd> due;
  while (!ends_.empty() && ends_.front().due <= now && due.size() < kAtOnce) {
    due.push_back(std::move(ends_.front()));
    ends_.pop_front();
  }
  return due;
}

std::optional<EndedProcesses::Clock::time_point> EndedProcesses::next_due() const {
  if (ends_.empty()) return std::nullopt;
  return ends_.front().due;
}

}  // namespace run_recorder
