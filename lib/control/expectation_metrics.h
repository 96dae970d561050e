// The samples of the metrics that have the label expectation. Pure; for the table in metrics.cc.
#pragma once

#include "control/snapshot.h"

namespace run_recorder {

class Samples;

void write_open_findings(Samples& out, const Snapshot& now);
void write_opened_findings(Samples& out, const Snapshot& now);
bool has_expectations(const Snapshot& now);
void write_expectations_missed(Samples& out, const Snapshot& now);
void write_expectations_overlong(Samples& out, const Snapshot& now);
void write_expectations_last_start(Samples& out, const Snapshot& now);
void write_expectations_next_due(Samples& out, const Snapshot& now);

}  // namespace run_recorder
