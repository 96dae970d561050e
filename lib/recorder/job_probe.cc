#include "recorder/job_probe.h"

#include "base/log.h"

namespace run_recorder {
namespace {

// How long a queue that failed or was slow is left alone.
constexpr std::chrono::seconds kPause{15};

}  // namespace

JobProbe::JobProbe(std::unique_ptr<JobQueue> queue) : queue_(std::move(queue)) {
  if (queue_) thread_ = std::thread([this] { work(); });
}

JobProbe::~JobProbe() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::vector<std::optional<std::string>> JobProbe::states(const std::vector<JobAsked>& jobs,
                                                         std::chrono::milliseconds patience) {
  std::vector<std::optional<std::string>> states(jobs.size());
  if (!queue_ || jobs.empty()) return states;
  std::unique_lock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (busy_ || now < not_before_) return states;
  busy_ = true;
  abandoned_ = false;
  answer_.reset();
  question_ = jobs;
  changed_.notify_all();
  if (!changed_.wait_until(lock, now + patience, [this] { return answer_.has_value(); })) {
    abandoned_ = true;
    not_before_ = now + kPause;
    log_debug("the queue did not say in time in which state jobs ended");
    return states;
  }
  busy_ = false;
  for (std::size_t i = 0; i < states.size() && i < answer_->size(); ++i) {
    const JobAnswer& job = (*answer_)[i];
    // Another execution's state says nothing of how this one ended.
    if (!job.state.empty() && job.kind != JobAnswer::Kind::kOtherExecution) states[i] = job.state;
    if (job.kind == JobAnswer::Kind::kCannotTell && job.state.empty()) {
      not_before_ = std::chrono::steady_clock::now() + kPause;
    }
  }
  answer_.reset();
  return states;
}

void JobProbe::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || question_.has_value(); });
    if (stopping_) return;
    const std::vector<JobAsked> jobs = std::move(*question_);
    question_.reset();
    lock.unlock();
    auto answer = queue_->look_up(jobs);
    lock.lock();
    if (abandoned_) {
      busy_ = false;
      continue;
    }
    answer_ = std::move(answer);
    changed_.notify_all();
  }
}

}  // namespace run_recorder
