// What reconciliation says of one row now, rule by rule, as JSON for people and programs. Pure.
#pragma once

#include "base/json_text.h"
#include "reconcile/verdict.h"
#include "store/store.h"

namespace run_recorder {

// verdict: what a pass would say of the row; left out where no pass judges such a row.
JsonText explanation(const RunningRow& row, const RowFacts& facts, const Verdict& verdict);

}  // namespace run_recorder
