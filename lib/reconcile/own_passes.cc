// The reconciler's own thread: the passes that nobody asks for.
#include <algorithm>
#include <utility>

#include "reconcile/reconciler.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRetryPause{1'000};
constexpr milliseconds kEndedRetryPause{200};  // another pass runs
constexpr std::chrono::seconds kIdleTurn{5};

}  // namespace

void Reconciler::run() {
  if (!boot()) return;
  while (const auto work = wait_for_work()) {
    if (*work != Schedule::Work::kNone && !wait_for_database()) return;
    switch (*work) {
      case Schedule::Work::kNone:
        break;
      case Schedule::Work::kSecondBoot:
        second_boot();
        break;
      case Schedule::Work::kInterval:
        interval_pass();
        break;
      case Schedule::Work::kEnded:
        check_ended();
        break;
    }
  }
}

// Work::kNone: something has changed, to be asked again.
std::optional<Schedule::Work> Reconciler::wait_for_work() {
  MutexLock lock(mutex_);
  const milliseconds interval = policy_.interval;
  const Schedule::Due due = schedule_.next(options_.clock(), interval);
  const auto changed = [&] {
    mutex_.assert_held();
    const auto ended = schedule_.ended_due();
    return stopping_ || policy_.interval != interval || (ended && *ended < due.at);
  };
  const bool has_changed = wait_until(lock, due.at, changed);
  if (stopping_) return std::nullopt;
  return has_changed ? Schedule::Work::kNone : due.work;
}

bool Reconciler::wait_for_database() {
  while (recorder_.status().database != DatabaseState::kUp) {
    if (!sleep_until(options_.clock() + milliseconds{100})) return false;
  }
  return true;
}

Pass Reconciler::own_pass(Plan plan, PassConnections& connections) {
  return Pass(host_, std::move(plan), policy(), connections, own_liveness_);
}

// The boot pass: tried until it ends. A second one over the rows it deferred is due once the grace has ended.
bool Reconciler::boot() {
  while (true) {
    if (!wait_for_database()) return false;
    PassConnections connections;
    Pass pass = own_pass({.trigger = PassTrigger::kBoot}, connections);
    const auto outcome = try_pass(pass, own_liveness_);
    note(outcome);
    if (outcome) {
      const MutexLock lock(mutex_);
      std::optional<Plan> second;
      if (outcome->deferred > 0) {
        second = second_boot_plan(outcome->started_at, policy_.grace, pass.take_deferred());
      }
      schedule_.boot_ended(options_.clock(), std::move(second), policy_.grace);
      status_.boot_done = true;
      return !stopping_;
    }
    if (!sleep_until(options_.clock() + kRetryPause)) return false;
  }
}

void Reconciler::second_boot() {
  Plan plan;
  {
    const MutexLock lock(mutex_);
    plan = schedule_.second_boot();
  }
  PassConnections connections;
  Pass pass = own_pass(std::move(plan), connections);
  const auto outcome = try_pass(pass, own_liveness_);
  note(outcome);
  const MutexLock lock(mutex_);
  if (outcome && pass.deferred_for_listening() == 0) {
    schedule_.second_boot_done();
  } else {
    // It failed, or events were not accepted for the grace once more: as after a suspension of the host.
    schedule_.second_boot_again(options_.clock() + (outcome ? policy_.grace : kRetryPause));
  }
}

void Reconciler::interval_pass() {
  {
    const MutexLock lock(mutex_);
    schedule_.interval_began(options_.clock());
  }
  PassConnections connections;
  Pass pass = own_pass({.trigger = PassTrigger::kInterval}, connections);
  note(try_pass(pass, own_liveness_));
}

// ---- what ended

void Reconciler::check_ended() {
  std::vector<ProcessEnd> ends;
  {
    const MutexLock lock(mutex_);
    ends = schedule_.take_ended(options_.clock());
  }
  const Result<void> done = check_ended(ends);
  if (!done) {
    ended_connections_ = {};
    const bool conflict = done.error().kind == ErrorKind::kConflict;
    const auto due = options_.clock() + (conflict ? kEndedRetryPause : kRetryPause);
    for (ProcessEnd& end : ends) end.due = due;
  }
  const MutexLock lock(mutex_);
  schedule_.check_again(std::move(ends));
}

// Nothing is recorded where nothing would be marked. Leaves in `ends` what has to be checked again, where it fails
// all of them.
Result<void> Reconciler::check_ended(std::vector<ProcessEnd>& ends) {
  Pass check = own_pass({.trigger = PassTrigger::kProcessEnd, .only_named = true}, ended_connections_);
  if (const auto applied = check.wait_until_applied(); !applied) return applied.error();
  if (const auto connected = check.connect(); !connected) return connected.error();
  auto found = check.check_ended(ends);
  if (!found) return found.error();
  if (!found->stuck.empty()) {
    Pass pass =
        own_pass({.trigger = PassTrigger::kProcessEnd, .only_named = true, .run_ids = std::move(found->stuck)},
                 ended_connections_);
    const auto outcome = try_pass(pass, own_liveness_);
    note(outcome);
    if (!outcome) return outcome.error();
  }
  ends = std::move(found->again);
  return {};
}

bool Reconciler::sleep_until(Clock::time_point until) {
  MutexLock lock(mutex_);
  return !wait_until(lock, until, [this] {
    mutex_.assert_held();
    return stopping_;
  });
}

bool Reconciler::wait_until(MutexLock& lock, Clock::time_point until, const std::function<bool()>& wake) {
  while (true) {
    own_liveness_.beat();
    if (wake()) return true;
    const auto left = until - options_.clock();
    if (left <= Clock::duration::zero()) return false;
    stop_.wait_until(lock, std::chrono::steady_clock::now() + std::min<Clock::duration>(left, kIdleTurn));
  }
}

}  // namespace run_recorder
