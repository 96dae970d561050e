#include "control/council_metrics.h"

#include <algorithm>

#include "control/samples.h"

namespace run_recorder {
namespace {

std::string label_of(const CouncilTotals& council) {
  return label("council", council.council);
}

}  // namespace

void write_council_starts(Samples& out, const Snapshot& now) {
  for (const CouncilTotals& council : now.recorder.councils) out.add(council.starts, label_of(council));
}

void write_council_ends(Samples& out, const Snapshot& now) {
  const auto outcomes = terminal_statuses();
  for (const CouncilTotals& council : now.recorder.councils) {
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      out.add(council.ends[i], label_of(council) + "," + label("outcome", to_string(outcomes[i])));
    }
  }
}

void write_council_running(Samples& out, const Snapshot& now) {
  for (const CouncilTotals& council : now.recorder.councils) {
    if (council.running) out.add(*council.running, label_of(council));
  }
}

bool has_counted_councils(const Snapshot& now) {
  return std::ranges::any_of(now.recorder.councils, [](const auto& council) { return council.running.has_value(); });
}

void write_council_last_start(Samples& out, const Snapshot& now) {
  for (const CouncilTotals& council : now.recorder.councils) {
    if (council.last_start) out.add(seconds(*council.last_start), label_of(council));
  }
}

void write_council_last_success(Samples& out, const Snapshot& now) {
  for (const CouncilTotals& council : now.recorder.councils) {
    if (council.last_success) out.add(seconds(*council.last_success), label_of(council));
  }
}

void write_council_durations(Samples& out, const Snapshot& now) {
  for (const CouncilTotals& council : now.recorder.councils) {
    out.add_histogram(CouncilTotals::kDurationBounds, council.durations, council.duration_sum, label_of(council));
  }
}

}  // namespace run_recorder
