// From what the database has to what is found of expectations (contract section 11). Pure, thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "expect/expected.h"
#include "store/store.h"

namespace run_recorder {

// An expectation at one moment, for people and programs.
struct ExpectationView {
  std::string name;
  Expectation expectation;
  Timestamp since{};                     // when somebody began to look at it as it is
  std::optional<StartedRun> last_start;  // of the runs that fit
  Outlook outlook;                       // of the next start
  bool missed = false;                   // it is found that one is missing
  bool adopted = false;                  // the database has it as it is: it may be judged
  bool disputed = false;                 // the database has another one of this name, of another daemon
  std::uint64_t overlong = 0;            // runs that are found to last too long
};
// What a moment says of all of them, by the database's clock.
struct ExpectationViews {
  Timestamp now{};
  std::vector<ExpectationView> views;  // by name
  std::vector<Finding> open;           // findings
};
// "ok", "late", "missed", "overlong": the worst that is so.
std::string_view state_of(const ExpectationView& view);
// Why it is in this state, in a sentence.
std::string why(const ExpectationView& view);

ExpectationView view_of(const Expected& expected, std::optional<Timestamp> since,
                        std::optional<StartedRun> last_start, Timestamp now);

// What is to be written.
struct FoundChanges {
  std::vector<NewFinding> opened;
  std::vector<FindingEnd> ended;
};
// Runs that did not start, or that did since.
FoundChanges judge_starts(const ExpectedRuns& expected, const ExpectationViews& seen);

// What a run of a council may last by what its council's runs did; empty: too little is known.
using LearnedLimit = std::function<std::optional<std::chrono::milliseconds>(std::string_view council)>;
// Of running rows those that last too long and are not found yet. `learned` is asked for councils of which no
// expectation says how long a run may last.
std::vector<NewFinding> judge_running(const ExpectedRuns& expected, std::span<const RunningRow> running,
                                      Timestamp now, const LearnedLimit& learned);
// Of the open overlong findings those whose run is no longer so: it is none of `found` (as judge_running() had them
// of all running rows). status_of: of their runs; a run that is gone has none.
std::vector<FindingEnd> judge_overlong(std::span<const Finding> open, std::span<const NewFinding> found,
                                       const std::map<std::string, Status, std::less<>>& status_of);

// How long runs usually take.
struct Usual {
  std::chrono::milliseconds median{};
  std::chrono::milliseconds p95{};
  std::chrono::milliseconds p99{};
  bool operator==(const Usual&) const = default;
};
inline constexpr std::size_t kLearnedRuns = 100;      // of so many runs, the newest
inline constexpr std::size_t kLeastLearnedRuns = 20;  // with fewer nothing is usual
// Empty: there are too few.
std::optional<Usual> usual_of(std::vector<std::chrono::milliseconds> durations);
// More than four times the 99th percentile, and no less than a minute.
std::chrono::milliseconds learned_limit(const Usual& usual);

}  // namespace run_recorder
