// The samples of the metrics that have the label council. Pure; for the table in metrics.cc.
#pragma once

#include "control/snapshot.h"

namespace run_recorder {

class Samples;

void write_council_starts(Samples& out, const Snapshot& now);
void write_council_ends(Samples& out, const Snapshot& now);
void write_council_running(Samples& out, const Snapshot& now);
bool has_counted_councils(const Snapshot& now);
void write_council_last_start(Samples& out, const Snapshot& now);
void write_council_last_success(Samples& out, const Snapshot& now);
void write_council_durations(Samples& out, const Snapshot& now);

}  // namespace run_recorder
