#include "queue/queues.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace run_recorder {
namespace {

using std::chrono::steady_clock;

// What takes longer to fail is not asked again at once: a pass has many pages.
constexpr std::chrono::milliseconds kSlow{1'000};

constexpr std::string_view kDefaultName = "default";

class Queues final : public JobQueue {
 public:
  Queues(NamedQueues queues, MonotonicClock clock)
      : queues_(std::move(queues)), clock_(std::move(clock)), rests_(queues_.size()) {}

  std::vector<JobAnswer> look_up(std::span<const JobAsked> jobs) override {
    std::vector<JobAnswer> answers(jobs.size());
    std::vector<std::vector<std::size_t>> of_queue(queues_.size());
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      if (const auto at = find_queue(queues_, jobs[i].queue)) {
        of_queue[*at].push_back(i);
      } else {
        answers[i].detail = at.error().message;
      }
    }
    for (std::size_t at = 0; at < queues_.size(); ++at) ask(at, jobs, of_queue[at], answers);
    return answers;
  }

  Result<void> check() override {
    for (const NamedQueue& one : queues_) {
      if (auto checked = one.queue->check(); !checked) return checked;
    }
    return {};
  }

 private:
  struct Rest {
    steady_clock::time_point until{};
    std::string why;
  };

  // `which` are the jobs of this queue, by their places in jobs and answers.
  void ask(std::size_t at, std::span<const JobAsked> jobs, const std::vector<std::size_t>& which,
           std::vector<JobAnswer>& answers) {
    if (which.empty()) return;
    const auto began = clock_();
    Rest& rest = rests_[at];
    if (began < rest.until) {
      for (const std::size_t i : which) answers[i] = {.detail = rest.why, .unreachable = true};
      return;
    }
    std::vector<JobAsked> asked;
    asked.reserve(which.size());
    for (const std::size_t i : which) asked.push_back(jobs[i]);
    auto given = queues_[at].queue->look_up(asked);
    for (std::size_t i = 0; i < which.size() && i < given.size(); ++i) answers[which[i]] = std::move(given[i]);
    const auto failed = std::ranges::find_if(which, [&](std::size_t i) { return answers[i].unreachable; });
    if (failed == which.end() || clock_() - began < kSlow) return;
    rest.until = clock_() + kQueuePause;
    rest.why = answers[*failed].detail;
  }

  const NamedQueues queues_;
  const MonotonicClock clock_;
  std::vector<Rest> rests_;  // by queue
};

}  // namespace

Result<std::size_t> find_queue(const NamedQueues& queues, std::string_view name) {
  if (name.empty() && queues.size() == 1) return std::size_t{0};
  const std::string_view wanted = name.empty() ? kDefaultName : name;
  const auto found = std::ranges::find(queues, wanted, &NamedQueue::name);
  if (found != queues.end()) return static_cast<std::size_t>(found - queues.begin());
  if (!name.empty()) return Error{ErrorKind::kNotFound, fmt::format("no queue \"{}\" is configured", name)};
  return Error{ErrorKind::kNotFound, "the run names no queue, and none of the configured ones is named default"};
}

std::unique_ptr<JobQueue> make_queues(NamedQueues queues, MonotonicClock clock) {
  if (queues.empty()) return nullptr;
  return std::make_unique<Queues>(std::move(queues), std::move(clock));
}

}  // namespace run_recorder
