#include "queue/job_probe.h"

#include <thread>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"

namespace run_recorder {
namespace {

using std::chrono::steady_clock;

}  // namespace

// One queue and the thread that asks it. ask() and answer() are called in turn, by one thread.
class JobProbe::Asker {
 public:
  explicit Asker(JobQueue& queue) : queue_(queue), thread_([this] { work(); }) {}
  ~Asker() {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Asker(const Asker&) = delete;
  Asker& operator=(const Asker&) = delete;

  // False: it is left alone now, or still at an older question.
  bool ask(std::vector<JobAsked> jobs) {
    const MutexLock lock(mutex_);
    if (busy_ || steady_clock::now() < not_before_) return false;
    busy_ = true;
    abandoned_ = false;
    answer_.reset();
    question_ = std::move(jobs);
    changed_.notify_all();
    return true;
  }

  // What became of the question; empty: nothing until then, and nobody waits for it any more.
  std::vector<JobAnswer> answer(steady_clock::time_point until) {
    MutexLock lock(mutex_);
    const bool answered = changed_.wait_until(lock, until, [this] {
      mutex_.assert_held();
      return answer_.has_value();
    });
    if (!answered) {
      abandoned_ = true;
      not_before_ = steady_clock::now() + kQueuePause;
      log_debug("the queue did not give the state of finished jobs in time");
      return {};
    }
    busy_ = false;
    auto answers = *std::exchange(answer_, std::nullopt);
    for (const JobAnswer& job : answers) {
      if (job.unreachable) not_before_ = steady_clock::now() + kQueuePause;
    }
    return answers;
  }

 private:
  void work() {
    MutexLock lock(mutex_);
    while (true) {
      while (!stopping_ && !question_) changed_.wait(lock);
      if (stopping_) return;
      const std::vector<JobAsked> jobs = *std::exchange(question_, std::nullopt);
      lock.unlock();
      auto answers = queue_.look_up(jobs);
      lock.lock();
      if (abandoned_) {
        busy_ = false;
        continue;
      }
      answer_ = std::move(answers);
      changed_.notify_all();
    }
  }

  JobQueue& queue_;  // used by the thread alone
  Mutex mutex_;
  Condition changed_;
  std::optional<std::vector<JobAsked>> question_ GUARDED_BY(mutex_);
  std::optional<std::vector<JobAnswer>> answer_ GUARDED_BY(mutex_);
  bool busy_ GUARDED_BY(mutex_) = false;       // a question is being worked on
  bool abandoned_ GUARDED_BY(mutex_) = false;  // its asker no longer waits
  bool stopping_ GUARDED_BY(mutex_) = false;
  steady_clock::time_point not_before_ GUARDED_BY(mutex_){};
  std::thread thread_;  // the last: it uses all of the others
};

JobProbe::JobProbe(NamedQueues queues) : queues_(std::move(queues)) {
  for (const NamedQueue& one : queues_) askers_.push_back(std::make_unique<Asker>(*one.queue));
}

JobProbe::~JobProbe() = default;

std::vector<std::optional<std::string>> JobProbe::states(const std::vector<JobAsked>& jobs,
                                                         std::chrono::milliseconds patience) {
  std::vector<std::optional<std::string>> states(jobs.size());
  const auto until = steady_clock::now() + patience;
  std::vector<std::vector<std::size_t>> of_queue(queues_.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (const auto at = find_queue(queues_, jobs[i].queue)) of_queue[*at].push_back(i);
  }
  std::vector<std::size_t> asked;
  for (std::size_t at = 0; at < queues_.size(); ++at) {
    std::vector<JobAsked> question;
    for (const std::size_t i : of_queue[at]) question.push_back(jobs[i]);
    if (!question.empty() && askers_[at]->ask(std::move(question))) asked.push_back(at);
  }
  for (const std::size_t at : asked) {
    const auto answers = askers_[at]->answer(until);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const JobAnswer& job = answers[i];
      // Another execution's state says nothing of how this one ended.
      const bool own = !job.state.empty() && job.kind != JobAnswer::Kind::kOtherExecution;
      if (own) states[of_queue[at][i]] = job.state;
    }
  }
  return states;
}

}  // namespace run_recorder
