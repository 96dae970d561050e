#include <fmt/format.h>

#include <algorithm>

#include "queue/oban_table.h"

namespace run_recorder {
namespace {

JobAnswer saying(JobAnswer answer, JobAnswer::Kind kind, std::string detail) {
  answer.kind = kind;
  answer.detail = std::move(detail);
  return answer;
}

}  // namespace

JobAnswer oban_answer(const JobAsked& asked, const ObanJob& job, std::chrono::milliseconds clock_skew) {
  using Kind = JobAnswer::Kind;
  const std::string& id = asked.job_id;
  const auto after_start = [&](const std::optional<Timestamp>& time) {
    return time && asked.started_at && *time > *asked.started_at + clock_skew;
  };
  if (after_start(job.inserted_at)) {
    return saying({}, Kind::kAbsent,
                  fmt::format("job {} was inserted at {}, after this run started: its own is gone", id,
                              format_rfc3339(*job.inserted_at)));
  }
  // The times are a node's, whose clock may be behind: a job may have changed later than they say, by as much.
  std::optional<std::chrono::milliseconds> changed_ago = job.changed_ago;
  if (changed_ago) changed_ago = std::max(std::chrono::milliseconds(0), *changed_ago - clock_skew);
  const JobAnswer seen{Kind::kCannotTell, job.state, job.attempt, job.attempted_at, changed_ago, {}};
  if (asked.attempt && job.attempt && *job.attempt > *asked.attempt) {
    return saying(seen, Kind::kOtherExecution,
                  fmt::format("job {} is at attempt {}, this run was attempt {}", id, *job.attempt, *asked.attempt));
  }
  if (after_start(job.attempted_at)) {
    return saying(
        seen, Kind::kOtherExecution,
        fmt::format("job {} was claimed again at {}, after this run started", id, format_rfc3339(*job.attempted_at)));
  }
  if (job.state == "executing") {
    if (asked.attempt && job.attempt && *job.attempt < *asked.attempt) {
      return saying(seen, Kind::kCannotTell,
                    fmt::format("job {} is at attempt {}, this run is attempt {}", id, *job.attempt, *asked.attempt));
    }
    return saying(seen, Kind::kWorking, fmt::format("job {} is executing", id));
  }
  if (job.state.empty()) return saying(seen, Kind::kCannotTell, fmt::format("job {} has no state", id));
  if (job.state == "completed") return saying(seen, Kind::kFinished, fmt::format("job {} is completed", id));
  JobAnswer waits = saying(seen, Kind::kNotExecuting, fmt::format("job {} is {}, not executing", id, job.state));
  waits.ended = job.state == "cancelled" || job.state == "discarded";
  return waits;
}

}  // namespace run_recorder
