#include "queue/queue.h"

namespace run_recorder {

std::optional<JobAsked> job_of(const Run& run) {
  if (!run.job_id && !run.oban_job_id) return std::nullopt;
  JobAsked job;
  job.queue = run.queue.value_or(std::string());
  job.job_id = run.job_id ? *run.job_id : std::to_string(*run.oban_job_id);
  if (run.attempt_given || run.recorder.empty()) job.attempt = run.attempt;
  job.started_at = run.started_at;
  return job;
}

}  // namespace run_recorder
