// What was found of expectations (contract section 11): rows of <prefix>findings, and what of the runs they are
// judged by. Each is opened once, however many daemons look, and ended once.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace run_recorder {

enum class FindingKind {
  kMissed,   // no run started in time; ends when one starts
  kOverlong  // a run lasts longer than allowed; ends with it
};
std::string_view to_string(FindingKind kind);
std::optional<FindingKind> finding_kind_from(std::string_view text);

// One that is to be opened.
struct NewFinding {
  FindingKind kind = FindingKind::kMissed;
  std::string expectation;            // its name; empty: learned from the council's history
  std::string council;                // of an overlong run; of a missed one what was expected, which may be a pattern
  std::string run_id{};               // empty where it is about none
  std::optional<Timestamp> due_at{};  // of a missed run
  std::optional<std::chrono::milliseconds> allowed{};  // of an overlong one
};

struct Finding : NewFinding {
  std::int64_t id = 0;
  Timestamp opened_at{};
  std::optional<Timestamp> ended_at{};
  std::string ended_by{};  // the run that started, or what became of the run; see FindingEnd
  std::string recorder{};  // who found it
};

struct FindingEnd {
  std::int64_t id = 0;
  // A run's id (missed), its status ("removed" where it is gone), or kExpectedNoMore.
  std::string by;
};
// What ended a finding of an expectation that is another one now, or is no more.
inline constexpr std::string_view kExpectedNoMore = "changed";

struct FindingFilter {
  bool open = true;  // only those that are not ended
  std::optional<std::string> expectation{};
  std::optional<FindingKind> kind{};
};
struct FindingPage {
  std::vector<Finding> findings;  // newest first
  std::string next;               // empty: no more
};

struct ExpectationDefinition {
  std::string name;
  std::string definition;  // a text that is another one when it asks for something else
};
// An expectation as the database knows it: since when it is as it is.
struct KnownExpectation : ExpectationDefinition {
  Timestamp since;
};

struct StartedRun {
  std::string run_id;
  std::string council;
  Timestamp started_at;  // as it says, but not after the row was written
};

// Where a council's last start is looked for: in so many of its newest rows that ever started.
inline constexpr std::size_t kStartedRows = 50;
// Whoever judges an expectation says so at least this often.
inline constexpr std::chrono::minutes kJudgedLately{8};

}  // namespace run_recorder
