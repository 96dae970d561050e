// `run-recorder reconcile` and `reconciliations`. Each returns the exit status.
#pragma once

#include <cstdint>
#include <string>

#include "cli/context.h"

namespace run_recorder {

struct ReconcileOptions {
  bool dry_run = false;
  bool unvouched = false;  // rows that nobody vouches for are stuck, as in the boot pass
  bool force = false;      // also more than [reconcile] max_stuck
};

int reconcile(const Context& context, const ReconcileOptions& options);
int undo_reconciliation(const Context& context, const std::string& pass_id);
int list_reconciliations(const Context& context, std::uint64_t limit);

}  // namespace run_recorder
