#include "reconcile/reconciler.h"

#include <fmt/format.h>

#include <cassert>
#include <utility>

#include "base/uuid.h"
#include "reconcile/explanation.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

// Of a request, while the pass over a process that has ended runs.
constexpr milliseconds kTurnPatience{10'000};
constexpr milliseconds kAfterTheGrace{20};
constexpr std::chrono::minutes kPageTime{3};  // several calls to database and queue, each to its deadline

}  // namespace

Reconciler::Reconciler(ReconcilerOptions options, Recorder& recorder)
    : options_(std::move(options)),
      recorder_(recorder),
      host_(host()),
      own_liveness_(kPageTime),
      request_liveness_(kPageTime),
      left_(LogLevel::kInfo, "another daemon is reconciling this database, skipping",
            "reconciling this database again"),
      failing_(LogLevel::kWarning, "reconciliation failed, nothing is marked until the next try",
               "reconciliation works again"),
      policy_(options_.policy) {}

Reconciler::~Reconciler() {
  stop();
}

void Reconciler::start() {
  thread_ = std::thread([this] {
    name_this_thread("reconciler");
    run();
    own_liveness_.rest();
  });
}

void Reconciler::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  turn_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Reconciler::reconfigure(const ReconcilePolicy& changed) {
  const MutexLock lock(mutex_);
  policy_ = changed;
  stop_.notify_all();
}

ReconcilePolicy Reconciler::policy() const {
  const MutexLock lock(mutex_);
  return policy_;
}

bool Reconciler::is_stopping() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

ReconcilerStatus Reconciler::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

void Reconciler::process_ended(std::string process, std::string connection) {
  const auto now = options_.clock();
  if (!process.empty() && connection.empty()) gone_.note(process, now);
  const MutexLock lock(mutex_);
  const auto due = now + policy_.grace + kAfterTheGrace;
  if (schedule_.add_ended({std::move(process), std::move(connection), due, 0})) stop_.notify_all();
}

PassHost Reconciler::host() {
  return {options_, recorder_, gone_, [this] { return is_stopping(); },
          [this](const PassReport& report) {
            const MutexLock lock(mutex_);
            status_.under_way = PassProgress{report.pass_id, report.examined, report.marked};
          }};
}

// ---- one pass

void Reconciler::note(const Result<PassReport>& outcome) {
  const MutexLock lock(mutex_);
  if (!outcome) {
    ++status_.failures;
    if (outcome.error().kind == ErrorKind::kConflict) {
      left_.report(outcome.error().message);
    } else if (!stopping_) {
      failing_.report(outcome.error().message);
    }
    return;
  }
  left_.clear();
  failing_.clear();
  ++status_.passes;
  const PassReport& report = outcome.value();
  if (report.stopped) ++status_.stopped;
  if (report.marked > 0) {
    for (const auto& [reason, count] : report.reasons) status_.findings[reason] += count;
  }
  if (report.trigger == PassTrigger::kProcessEnd) return;
  status_.last_good_at = report.finished_at;
  status_.last = report;
  status_.last->runs.clear();
}

Result<PassReport> Reconciler::reconcile(const PassRequest& request) {
  PassConnections connections;
  Pass pass(host_, {.trigger = PassTrigger::kRequest, .request = request}, policy(), connections, request_liveness_);
  auto outcome = try_pass(pass, request_liveness_);
  if (outcome || outcome.error().kind != ErrorKind::kConflict) note(outcome);
  return outcome;
}

// Waits for everything received so far, takes the turn and the lease, runs the pass.
Result<PassReport> Reconciler::try_pass(Pass& pass, Liveness& liveness) {
  {
    MutexLock lock(mutex_);
    if (const auto free = wait_for_turn(lock, liveness); !free) return free.error();
  }
  if (const auto came = pass.wait_until_applied(); !came) return came.error();
  if (const auto connected = pass.connect(); !connected) return connected.error();
  auto outcome = take_turn(pass, liveness);
  if (&liveness == &request_liveness_) {
    liveness.rest();
  } else {
    liveness.beat();
  }
  return outcome;
}

// Passes of a moment come by themselves whenever a process ends: who asks for one waits for those, and is told of any
// other.
Result<void> Reconciler::wait_for_turn(MutexLock& lock, const Liveness& liveness) {
  const auto settled = [this] {
    mutex_.assert_held();
    return stopping_ || !status_.running || !ended_under_way_;
  };
  if (&liveness == &request_liveness_) turn_.wait_for(lock, kTurnPatience, settled);
  if (stopping_) return stopping_error();
  if (status_.running) return Error{ErrorKind::kConflict, "another reconciliation is running"};
  return {};
}

Result<PassReport> Reconciler::take_turn(Pass& pass, const Liveness& liveness) {
  std::string pass_id;
  {
    MutexLock lock(mutex_);
    if (const auto free = wait_for_turn(lock, liveness); !free) return free.error();
    assert(!status_.running);
    status_.running = true;
    ended_under_way_ = pass.trigger() == PassTrigger::kProcessEnd;
    pass_id = std::exchange(unused_pass_id_, {});
  }
  if (pass_id.empty()) pass_id = time_ordered_uuid(now_utc());
  bool has_turn = true;
  const auto end_turn = [this, &has_turn] {
    const MutexLock lock(mutex_);
    if (!std::exchange(has_turn, false)) return;
    status_.running = false;
    status_.under_way.reset();
    turn_.notify_all();
  };
  auto outcome = pass.run(pass_id, end_turn);
  if (!outcome) pass.give_up();
  end_turn();
  const MutexLock lock(mutex_);
  if (!outcome && pass.report().marked == 0) unused_pass_id_ = std::move(pass_id);
  if (pass.runs_by_status()) status_.runs_by_status = pass.runs_by_status();
  return outcome;
}

// ---- explain

Result<JsonText> Reconciler::explain(Store& store, std::string_view run_id) {
  const auto found = store.running_row(run_id);
  if (!found) return found.error();
  if (!found.value()) return Error{ErrorKind::kNotFound, fmt::format("there is no run {}", run_id)};
  const RunningRow& row = *found.value();
  const ReconcilePolicy now = policy();
  const auto queue = options_.make_queue ? options_.make_queue() : nullptr;
  EvidenceGatherer evidence(evidence_options(host_, now, store), queue.get());
  const RowFacts facts = evidence.gather({&row, 1}).front();
  return explanation(row, facts, judge(facts, rules_now(host_, now, {.trigger = PassTrigger::kRequest})));
}

}  // namespace run_recorder
