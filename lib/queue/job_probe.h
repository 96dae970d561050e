// Asks the queues for the state of jobs whose runs just ended (oban_job_state_at_finalize). Best effort: each queue
// has a thread of its own, and one that does not answer in time is left alone for a while, so that neither an event
// nor another queue waits for it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "queue/queues.h"

namespace run_recorder {

class JobProbe {
 public:
  // Without queues every question has no answer.
  explicit JobProbe(NamedQueues queues);
  ~JobProbe();
  JobProbe(const JobProbe&) = delete;
  JobProbe& operator=(const JobProbe&) = delete;

  bool configured() const { return !queues_.empty(); }
  // The state of each, in their order, where its queue answered within patience and the job is still at this
  // execution. For one caller at a time.
  std::vector<std::optional<std::string>> states(const std::vector<JobAsked>& jobs,
                                                 std::chrono::milliseconds patience);

 private:
  class Asker;

  const NamedQueues queues_;
  std::vector<std::unique_ptr<Asker>> askers_;  // one a queue; must go before the queues
};

}  // namespace run_recorder
