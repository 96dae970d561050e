// The port to a job queue: "is attempt A of job J alive?" (SPEC section 6, rule 3; section 9). Read-only. Oban is the
// first adapter; others answer the same question. One thread at a time; every call ends within its deadline.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "run/verdict.h"

namespace run_recorder {

class JobQueue {
 public:
  virtual ~JobQueue() = default;
  // An answer for every id, in one look. Where the queue cannot be read, each is kUnavailable with the reason; the
  // next call tries to connect again.
  virtual std::unordered_map<std::int64_t, JobAnswer> look_up(std::span<const std::int64_t> job_ids) = 0;
  // Whether the table is there and readable now; the error says what to do.
  virtual Result<void> check() = 0;
};

struct QueueOptions {
  std::string url;                  // sqlite:PATH or a libpq URI
  std::string table = "oban_jobs";  // may be schema.table
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::milliseconds deadline{5'000};
};

std::unique_ptr<JobQueue> make_oban_queue(const QueueOptions& options);

}  // namespace run_recorder
