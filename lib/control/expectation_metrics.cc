#include "control/expectation_metrics.h"

#include "control/samples.h"

namespace run_recorder {
namespace {

using Counts = std::map<FindingKind, std::uint64_t>;

void write_by_kind(Samples& out, const Counts& counts) {
  for (const FindingKind kind : {FindingKind::kMissed, FindingKind::kOverlong}) {
    const auto found = counts.find(kind);
    out.add(found == counts.end() ? 0 : found->second, label("kind", to_string(kind)));
  }
}

std::string of(const ExpectationView& view) {
  return label("expectation", view.name);
}

}  // namespace

void write_open_findings(Samples& out, const Snapshot& now) {
  write_by_kind(out, now.expectations.open);
}

void write_opened_findings(Samples& out, const Snapshot& now) {
  write_by_kind(out, now.expectations.opened);
}

bool has_expectations(const Snapshot& now) {
  return !now.expectations.views.empty();
}

void write_expectations_missed(Samples& out, const Snapshot& now) {
  for (const ExpectationView& view : now.expectations.views) {
    out.add(view.missed ? 1 : 0, of(view));
  }
}

void write_expectations_overlong(Samples& out, const Snapshot& now) {
  for (const ExpectationView& view : now.expectations.views) out.add(view.overlong, of(view));
}

void write_expectations_last_start(Samples& out, const Snapshot& now) {
  for (const ExpectationView& view : now.expectations.views) {
    if (view.last_start) out.add(seconds(view.last_start->started_at), of(view));
  }
}

void write_expectations_next_due(Samples& out, const Snapshot& now) {
  for (const ExpectationView& view : now.expectations.views) {
    if (view.outlook.due) out.add(seconds(*view.outlook.due), of(view));
  }
}

}  // namespace run_recorder
