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

std::unordered_map<std::int64_t, std::string> JobProbe::states(const std::vector<std::int64_t>& job_ids,
                                                               std::chrono::milliseconds patience) {
  std::unordered_map<std::int64_t, std::string> states;
  if (!queue_ || job_ids.empty()) return states;
  std::unique_lock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (busy_ || now < not_before_) return states;
  busy_ = true;
  abandoned_ = false;
  answer_.reset();
  question_ = job_ids;
  changed_.notify_all();
  if (!changed_.wait_until(lock, now + patience, [this] { return answer_.has_value(); })) {
    abandoned_ = true;
    not_before_ = now + kPause;
    log_debug("the queue did not say in time in which state jobs ended");
    return states;
  }
  busy_ = false;
  for (const auto& [id, job] : *answer_) {
    if (job.kind == JobAnswer::Kind::kFound) states.emplace(id, job.state);
    if (job.kind == JobAnswer::Kind::kUnavailable) not_before_ = std::chrono::steady_clock::now() + kPause;
  }
  answer_.reset();
  return states;
}

void JobProbe::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || question_.has_value(); });
    if (stopping_) return;
    const std::vector<std::int64_t> job_ids = std::move(*question_);
    question_.reset();
    lock.unlock();
    auto answer = queue_->look_up(job_ids);
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
