// What a pass writes into the log: a line for each row marked, within bounds, and one for the whole.
#include <fmt/format.h>

#include "base/log.h"
#include "reconcile/pass.h"

namespace run_recorder {
namespace {

constexpr std::size_t kCountedGroups = 1'000;

}  // namespace

void Pass::log_row(const RunningRow& row, const Verdict& verdict) {
  const Run& run = row.run;
  if (logged_ >= policy_.log_rows) {
    std::pair<std::string, std::string> group{run.council, std::string(verdict.reason)};
    if (unlogged_.size() >= kCountedGroups && !unlogged_.contains(group)) group.first = "(other)";
    ++unlogged_[group];
    return;
  }
  ++logged_;
  log_warning("run is stuck",
              {{"RUN_ID", run.run_id},
               {"COUNCIL", run.council},
               {"ATTEMPT", run.attempt},
               {"OBAN_JOB_ID", run.oban_job_id ? std::to_string(*run.oban_job_id) : run.job_id.value_or("none")},
               {"AGE_SECONDS", std::chrono::duration_cast<std::chrono::seconds>(row.silence).count()},
               {"REASON", verdict.reason},
               {"EVIDENCE", verdict.message},
               {"PASS_ID", report_.pass_id}});
}

void Pass::log_summary() const {
  const PassReport& report = report_;
  for (const auto& [group, count] : unlogged_) {
    log_warning("more runs are stuck",
                {{"COUNCIL", group.first}, {"REASON", group.second}, {"COUNT", count}, {"PASS_ID", report.pass_id}});
  }
  std::string reasons;
  for (const auto& [reason, count] : report.reasons) {
    reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", count, reason);
  }
  const std::string message = fmt::format(
      "reconciliation{} {}: {} examined, {} alive, {} stuck, {} unknown, {} raced, {} foreign; {} marked, {} "
      "deferred",
      report.dry_run ? " (dry run)" : "", report.stopped ? "stopped" : "finished", report.examined, report.alive,
      report.stuck, report.unknown, report.raced, report.foreign, report.marked, report.deferred);
  if (report.stopped) {
    log_error(message,
              {{"TRIGGER", to_string(report.trigger)}, {"PASS_ID", report.pass_id}, {"WHY", report.stopped_because}});
    return;
  }
  log_info(message, {{"TRIGGER", to_string(report.trigger)},
                     {"REASONS", reasons.empty() ? std::string("none") : reasons},
                     {"PASS_ID", report.pass_id}});
}

}  // namespace run_recorder
