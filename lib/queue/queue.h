// The port to a job queue: "is this execution of job J being worked on?" (contract section 6, rule 3; sections 9,
// 10). Read-only. Oban is the first adapter; others answer the same question. One thread at a time; every call ends
// within its deadline.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "run/job.h"
#include "run/run.h"

namespace run_recorder {

// One execution of a job, as a run's row names it.
struct JobAsked {
  std::string queue = {};                    // the configured queue's name; empty: none was named
  std::string job_id;                        // the job's id there
  std::optional<std::int32_t> attempt = {};  // only where it was stated
  std::optional<Timestamp> started_at = {};  // the claim came before it, but for the difference of clocks
};
// Empty where the run names no job. An attempt is stated by an event, or by an application that wrote the row itself.
std::optional<JobAsked> job_of(const Run& run);

// What the queue said of a run's execution of its job.
struct JobAnswer {
  enum class Kind {
    kCannotTell,      // no answer, or one that fits no rule: no evidence
    kAbsent,          // the run's job is not there
    kWorking,         // this execution is being worked on
    kOtherExecution,  // a later attempt or claim of the job took over
    kNotExecuting,    // it waits, or ended other than well
    kFinished,        // it finished well
    kHolderGone,      // it is claimed, but the holder's heartbeat or lock has expired
  } kind = Kind::kCannotTell;
  std::string state = {};                    // the queue's word, as "executing"; empty: no job was found
  std::optional<std::int64_t> attempt = {};  // the job's
  std::optional<Timestamp> claimed_at = {};  // when the job was claimed last, by the worker's clock
  std::optional<std::chrono::milliseconds> changed_ago = {};  // since its row changed last, by the queue's clock
  std::string detail = {};                                    // the answer as a sentence with its evidence
  bool ended = false;                                         // kNotExecuting: for good, as cancelled or discarded
  bool unreachable = false;  // kCannotTell: the queue itself gave no answer, as one that is away
};

class JobQueue {
 public:
  virtual ~JobQueue() = default;
  // An answer for each, in their order, from one query. Where the queue cannot be read, each is kCannotTell with the
  // reason; the next call tries to connect again.
  virtual std::vector<JobAnswer> look_up(std::span<const JobAsked> jobs) = 0;
  // Whether the table is there and readable now; the error says what to do.
  virtual Result<void> check() = 0;
};

// How long a queue that failed or was slow is left alone.
inline constexpr std::chrono::seconds kQueuePause{15};

struct QueueOptions {
  std::string url;                      // sqlite:PATH or a libpq URI
  std::string table{kDefaultJobTable};  // may be schema.table
  std::chrono::milliseconds clock_skew = kDefaultClockSkew;
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::milliseconds deadline{5'000};
};

std::unique_ptr<JobQueue> make_oban_queue(const QueueOptions& options);

}  // namespace run_recorder
