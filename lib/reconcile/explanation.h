// What reconciliation says of one row now, rule by rule, as JSON for people and programs. Pure.
#pragma once

#include "base/json_text.h"
#include "reconcile/verdict.h"
#include "store/store.h"

namespace run_recorder {

// verdict: what a pass would say of the row, which is not asked where the row is none that a pass looks at.
JsonText explanation(const RunningRow& row, const RowFacts& facts, const Verdict& verdict);

}  // namespace run_recorder
