// The expectations of a configuration, ready to be judged. Pure, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "config/policies.h"
#include "expect/outlook.h"
#include "store/finding.h"

namespace run_recorder {

struct Expected {
  std::string name;
  Expectation expectation;
  StartSchedule schedule;
};

// What changes when and of whom a start is expected; how late it may be, and how long it may last, do not.
std::string definition_of(const Expectation& expected);

class ExpectedRuns {
 public:
  // The policy has been checked with the configuration; what has not and cannot be read is left out.
  explicit ExpectedRuns(const ExpectPolicy& policy);

  const std::vector<Expected>& all() const { return all_; }
  bool learns() const { return learns_; }
  // Nothing is expected of any run.
  bool empty() const { return all_.empty() && !learns_; }
  const Expected* find(std::string_view name) const;
  // As the database remembers them. What a run may last by its council's history is one too, without a name.
  std::vector<ExpectationDefinition> definitions() const;
  // A name that is the same for all daemons that expect the same.
  const std::string& fingerprint() const { return fingerprint_; }
  // The least time that a run may last by any of them; empty: none says.
  std::optional<std::chrono::milliseconds> shortest_max_duration() const;

 private:
  std::vector<Expected> all_;
  bool learns_ = false;
  std::string fingerprint_;
};

}  // namespace run_recorder
