#include "reconcile/pass_report.h"

#include <nlohmann/json.hpp>

namespace run_recorder {

void PassReport::count(const RunningRow& row, VerdictKind verdict, std::string_view reason) {
  if (verdict == VerdictKind::kDeferred) {
    ++deferred;
    return;
  }
  ++examined;
  switch (verdict) {
    case VerdictKind::kAlive:
      ++alive;
      return;
    case VerdictKind::kStuck:
      ++stuck;
      break;
    case VerdictKind::kUnknown:
      ++unknown;
      break;
    case VerdictKind::kForeign:
      ++foreign;
      break;
    case VerdictKind::kRaced:
      ++raced;
      break;
    case VerdictKind::kDeferred:
      return;
  }
  ++reasons[std::string(reason)];
  if (runs.size() >= kReportedRuns) {
    truncated = true;
    return;
  }
  ReportedRun run;
  run.run_id = row.run.run_id;
  run.council = row.run.council;
  run.attempt = row.run.attempt;
  run.oban_job_id = row.run.oban_job_id;
  run.age_seconds = std::chrono::duration_cast<std::chrono::seconds>(row.silence).count();
  run.verdict = verdict;
  run.reason = std::string(reason);
  runs.push_back(std::move(run));
}

JsonText PassReport::to_json() const {
  nlohmann::ordered_json report;
  report["pass_id"] = pass_id;
  report["trigger"] = to_string(trigger);
  report["dry_run"] = dry_run;
  report["stopped"] = stopped;
  if (!stopped_because.empty()) report["stopped_because"] = stopped_because;
  report["started_at"] = format_rfc3339(started_at);
  report["finished_at"] = nullptr;
  if (finished_at != Timestamp{}) report["finished_at"] = format_rfc3339(finished_at);
  report["examined"] = examined;
  report["alive"] = alive;
  report["stuck"] = stuck;
  report["unknown"] = unknown;
  report["raced"] = raced;
  report["foreign"] = foreign;
  report["marked"] = marked;
  report["deferred"] = deferred;
  report["reasons"] = nlohmann::ordered_json::object();
  for (const auto& [reason, count] : reasons) report["reasons"][reason] = count;
  report["runs"] = nlohmann::ordered_json::array();
  for (const ReportedRun& run : runs) {
    nlohmann::ordered_json row;
    row["run_id"] = run.run_id;
    row["council"] = run.council;
    row["attempt"] = run.attempt;
    row["oban_job_id"] = run.oban_job_id ? nlohmann::ordered_json(*run.oban_job_id) : nlohmann::ordered_json();
    row["age_seconds"] = run.age_seconds;
    row["verdict"] = to_string(run.verdict);
    row["reason"] = run.reason;
    report["runs"].push_back(std::move(row));
  }
  report["truncated"] = truncated;
  return report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace run_recorder
