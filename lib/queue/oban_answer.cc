#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "queue/oban_table.h"

namespace run_recorder {
namespace {

JobAnswer saying(JobAnswer answer, JobAnswer::Kind kind, std::string detail) {
  answer.kind = kind;
  answer.detail = std::move(detail);
  return answer;
}

// A standby whose primary has nothing to do hears of it every wal_sender_timeout / 2 (30 s).
constexpr std::chrono::seconds kCurrent{60};
// Where nothing says since when the job must be there.
constexpr std::chrono::seconds kJustNow{5};

// Whether the answer holds although it is a standby's.
bool holds(const JobAnswer& answer, const JobAsked& asked, const ObanReplay& replay,
           std::chrono::milliseconds clock_skew) {
  using Kind = JobAnswer::Kind;
  switch (answer.kind) {
    case Kind::kCannotTell:
    case Kind::kOtherExecution:
      return true;
    case Kind::kWorking:
      return is_current(replay);
    case Kind::kAbsent:
    case Kind::kNotExecuting:
    case Kind::kFinished:
    case Kind::kHolderGone:
      break;
  }
  if (!replay.until) return false;
  return *replay.until > (asked.started_at ? *asked.started_at + clock_skew : replay.now - kJustNow);
}

}  // namespace

bool is_current(const ObanReplay& replay) {
  return replay.until && *replay.until > replay.now - kCurrent;
}

std::string words_for(const ObanReplay& replay) {
  const std::string until = replay.until ? fmt::format("has replayed until {}", format_rfc3339(*replay.until))
                                         : "does not say how far it is";
  return fmt::format(
      "the queue is read from a standby that {}: name the primary in url, or grant pg_read_all_stats, which "
      "tells an idle primary from an unreachable one",
      until);
}

JobAnswer oban_answer(const JobAsked& asked, std::int64_t id, const ObanSnapshot& snapshot,
                      std::chrono::milliseconds clock_skew) {
  using Kind = JobAnswer::Kind;
  const auto job = snapshot.jobs.find(id);
  const bool absent = job == snapshot.jobs.end();
  if (absent && !snapshot.may_hide.empty()) {
    return saying({}, Kind::kCannotTell, fmt::format("job {} is not shown: {}", asked.job_id, snapshot.may_hide));
  }
  JobAnswer answer = absent ? saying({}, Kind::kAbsent, fmt::format("job {} is no longer in the queue", asked.job_id))
                            : oban_answer(asked, job->second, clock_skew);
  const bool used_again = answer.kind == Kind::kAbsent && !absent;
  if (!snapshot.replay || used_again || holds(answer, asked, *snapshot.replay, clock_skew)) return answer;
  return saying(std::move(answer), Kind::kCannotTell, words_for(*snapshot.replay));
}

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
