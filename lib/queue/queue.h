// The port to a job queue: "is this execution of job J being worked on?" (SPEC section 6, rule 3; sections 9, 10).
// Read-only. Oban is the first adapter; others answer the same question. One thread at a time; every call ends within
// its deadline.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "run/verdict.h"

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

class JobQueue {
 public:
  virtual ~JobQueue() = default;
  // An answer for each, in their order, in one look. Where the queue cannot be read, each is kCannotTell with the
  // reason; the next call tries to connect again.
  virtual std::vector<JobAnswer> look_up(std::span<const JobAsked> jobs) = 0;
  // Whether the table is there and readable now; the error says what to do.
  virtual Result<void> check() = 0;
};

struct QueueOptions {
  std::string url;                               // sqlite:PATH or a libpq URI
  std::string table = "oban_jobs";               // may be schema.table
  std::chrono::milliseconds clock_skew{10'000};  // how far the clocks of workers and senders may differ
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::milliseconds deadline{5'000};
};

std::unique_ptr<JobQueue> make_oban_queue(const QueueOptions& options);

}  // namespace run_recorder
