// The daemon's metrics for Prometheus: one table, from which /metrics and the list in docs/operations.md follow. A
// new metric is an entry in metrics.cc and a line in that document. Pure functions; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "control/snapshot.h"

namespace run_recorder {

class Samples;

enum class Prefix {
  kOurs,  // run_recorder_
  kNone,  // as all exporters name it
};

struct Metric {
  std::string_view name;  // behind the prefix
  std::string_view type;  // gauge, counter, histogram
  std::string_view help;
  // Adds its samples. Where a label's values are not known before, and nothing has been counted,
  // there may be none.
  void (*write)(Samples& out, const Snapshot& snapshot);
  // Whether it is shown at all; always, where empty.
  bool (*shown)(const Snapshot& snapshot) = nullptr;
  Prefix prefix = Prefix::kOurs;
};
std::string full_name(const Metric& metric);

std::span<const Metric> metrics();

// All of them in Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats), in the table's order.
std::string metrics_text(const Snapshot& snapshot);

}  // namespace run_recorder
