// Several queues by name, asked as one (contract section 10). Each has a connection and a deadline of its own, so
// that one that is away or slow costs the others neither their answers nor much of their time. For one thread at a
// time, as the queues themselves.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "queue/queue.h"

namespace run_recorder {

struct NamedQueue {
  std::string name;
  std::unique_ptr<JobQueue> queue;
};
using NamedQueues = std::vector<NamedQueue>;

// Where in `queues` a job is that was asked for under this name. Empty: the only one, else the one named default.
// kNotFound says why nobody can tell.
Result<std::size_t> find_queue(const NamedQueues& queues, std::string_view name);

// Answers for jobs of all of them; what names none of them is kCannotTell. A queue that failed slowly is left alone
// for a while, with the words it failed with. Null where there are none.
using MonotonicClock = std::function<std::chrono::steady_clock::time_point()>;
std::unique_ptr<JobQueue> make_queues(NamedQueues queues, MonotonicClock clock = std::chrono::steady_clock::now);

}  // namespace run_recorder
