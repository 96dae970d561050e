// Asks the queue for the state of jobs whose runs just ended (oban_job_state_at_finalize). Best effort: it has a
// thread of its own, and a queue that does not answer in time is left alone for a while, so that no event waits for
// it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "queue/queue.h"

namespace run_recorder {

class JobProbe {
 public:
  // queue may be null: then every question has no answer.
  explicit JobProbe(std::unique_ptr<JobQueue> queue);
  ~JobProbe();
  JobProbe(const JobProbe&) = delete;
  JobProbe& operator=(const JobProbe&) = delete;

  bool configured() const { return queue_ != nullptr; }
  // The state of each, in their order, where the queue answered within patience and the job is still at this
  // execution. For one caller at a time.
  std::vector<std::optional<std::string>> states(const std::vector<JobAsked>& jobs,
                                                 std::chrono::milliseconds patience);

 private:
  void work();

  const std::unique_ptr<JobQueue> queue_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // guarded by mutex_
  std::optional<std::vector<JobAsked>> question_;
  std::optional<std::vector<JobAnswer>> answer_;
  bool busy_ = false;       // a question is being worked on
  bool abandoned_ = false;  // its asker no longer waits
  bool stopping_ = false;
  std::chrono::steady_clock::time_point not_before_{};
  std::thread thread_;
};

}  // namespace run_recorder
