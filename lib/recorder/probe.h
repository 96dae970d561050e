// Rows of a run that never was: whether the tables take anything at all is found out by rehearsing them, never by
// committing them. Pure.
#pragma once

#include <vector>

#include "store/store.h"

namespace run_recorder {

// A run that one transaction begins and the next one ends, so that each column is written and changed once. `place`
// is the position, which does not move, and the ledger. like: a row whose council, attempt, input and result it takes
// over, because triggers and policies of somebody else's may ask for certain ones; null: it has usual ones.
std::vector<BatchWrite> probe_writes(const BatchWrite& place, const Run* like, RecordedBy by);

}  // namespace run_recorder
