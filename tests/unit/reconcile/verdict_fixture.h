// What the tests of reconciliation's rules share.
#pragma once

#include <gtest/gtest.h>

#include <string_view>

#include "reconcile/verdict.h"

namespace run_recorder::testing {

inline const Rules kLater;
inline const Rules kBoot{.boot = true};

inline void expect(const RowFacts& facts, VerdictKind kind, std::string_view reason, const Rules& policy = kLater) {
  const Verdict verdict = judge(facts, policy);
  EXPECT_EQ(to_string(verdict.kind), to_string(kind)) << verdict.message;
  EXPECT_EQ(verdict.reason, reason) << verdict.message;
  EXPECT_FALSE(verdict.message.empty()) << "every verdict names its evidence";
  const Verdict as_in_a_pass = judge(facts, policy, AskedRules::kUntilDecided);
  EXPECT_EQ(as_in_a_pass.kind, verdict.kind);
  EXPECT_EQ(as_in_a_pass.reason, verdict.reason);
  EXPECT_EQ(as_in_a_pass.message, verdict.message);
}

}  // namespace run_recorder::testing
