// The report of one pass of reconciliation (contract section 6, "Report"), as a value and as JSON. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json_text.h"
#include "base/time.h"
#include "reconcile/plan.h"
#include "reconcile/verdict.h"
#include "store/store.h"

namespace run_recorder {

struct ReportedRun {
  std::string run_id;
  std::string council;
  std::int32_t attempt = 1;
  std::optional<std::int64_t> oban_job_id;
  std::int64_t age_seconds = 0;  // since its last event was applied
  VerdictKind verdict = VerdictKind::kUnknown;
  std::string reason;
};

struct PassReport {
  std::string pass_id;
  PassTrigger trigger = PassTrigger::kRequest;
  bool dry_run = false;
  bool stopped = false;  // the breaker held it back: nothing was marked
  std::string stopped_because;
  Timestamp started_at{};
  Timestamp finished_at{};
  std::uint64_t examined = 0;  // alive + stuck + unknown + raced + foreign
  std::uint64_t alive = 0;
  std::uint64_t stuck = 0;
  std::uint64_t unknown = 0;
  std::uint64_t raced = 0;
  std::uint64_t foreign = 0;
  std::uint64_t marked = 0;                      // rows changed
  std::uint64_t deferred = 0;                    // not examined: within the grace
  std::map<std::string, std::uint64_t> reasons;  // of every row not alive
  std::vector<ReportedRun> runs;                 // the rows not alive, at most kReportedRuns
  bool truncated = false;                        // there were more

  void count(const RunningRow& row, VerdictKind verdict, std::string_view reason);
  void count_alive(std::uint64_t rows) {
    examined += rows;
    alive += rows;
  }
  JsonText to_json() const;
};
inline constexpr std::size_t kReportedRuns = 1'000;

}  // namespace run_recorder
