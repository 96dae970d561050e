// Expectations as the database has them at this moment. For a thread with a Store of its own.
#pragma once

#include "expect/judgement.h"

namespace run_recorder {

// Councils that fit a pattern are looked for among so many names.
inline constexpr std::size_t kSearchedCouncils = 10'000;
// No more open findings than these are looked at, the newest.
inline constexpr std::size_t kOpenFindings = 100'000;

// Errors: the store's.
Result<ExpectationViews> read_views(Store& store, const ExpectedRuns& expected);

}  // namespace run_recorder
