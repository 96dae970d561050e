#include "cli/run_query.h"

namespace run_recorder {

void RunQuery::declare(Flags& flags) {
  flags.statuses("--status", statuses, Flags::Statuses::kAll,
                 "Only these: queued, running, completed, failed, cancelled, stuck; several by comma");
  flags.text("--council", council, "Only runs of this council", "NAME");
  flags.text("--job", job, "Only runs of this job, by its id in its queue", "ID");
  flags.text("--queue", queue, "Only runs of this queue's jobs; the queue default includes jobs that name no queue",
             "NAME");
  flags.integer("--oban-job-id", oban_job_id, "The same as --job, for an integer", "N");
  flags.text("--pass", pass, "Only runs that this pass marked stuck", "PASS");
  flags.time("--since", since,
             "Only runs recorded since then: 2026-01-02T03:04:05Z, or a duration before now such as 1h");
  flags.time("--until", until, "Only runs recorded before then; a time as in --since");
}

Target RunQuery::target() const {
  Target target("/v1/runs");
  std::string joined;
  for (const std::string& status : statuses) joined += (joined.empty() ? "" : ",") + status;
  if (!joined.empty()) target.add("status", joined);
  if (council) target.add("council", *council);
  if (job) target.add("job", *job);
  if (queue) target.add("queue", *queue);
  if (oban_job_id) target.add("oban_job_id", std::to_string(*oban_job_id));
  if (pass) target.add("pass", *pass);
  if (since) target.add("since", format_rfc3339(*since));
  if (until) target.add("until", format_rfc3339(*until));
  return target;
}

std::optional<Timestamp> parse_since(std::string_view text, Timestamp now) {
  if (const std::optional<Timestamp> time = parse_rfc3339(text)) return time;
  if (text.ends_with(" ago")) text.remove_suffix(4);
  const std::optional<std::chrono::milliseconds> duration = parse_duration(text);
  if (!duration) return std::nullopt;
  return now - *duration;
}

}  // namespace run_recorder
