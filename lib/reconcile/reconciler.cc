#include "reconcile/reconciler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/uuid.h"
#include "reconcile/explanation.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRetryPause{1'000};
// Of a request, while the pass over a process that has ended runs.
constexpr milliseconds kTurnPatience{10'000};
constexpr milliseconds kAfterTheGrace{20};
// Ends that come together are looked at together.
constexpr milliseconds kBetweenEndedLooks{500};
constexpr milliseconds kEndedRetryPause{200};
constexpr int kEndedLooks = 100;  // at one process; then it is left to the pass of the next interval
constexpr std::chrono::seconds kIdleTurn{5};
constexpr std::chrono::minutes kPageTime{3};  // several calls to database and queue, each to its deadline

Error stopping_error() {
  return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
}

}  // namespace

Reconciler::Reconciler(ReconcilerOptions options, Recorder& recorder)
    : options_(std::move(options)),
      recorder_(recorder),
      host_(host()),
      own_pulse_(kPageTime),
      request_pulse_(kPageTime),
      left_(LogLevel::kInfo, "reconciliation left to the daemon that is at it", "reconciliation goes on here"),
      failing_(LogLevel::kWarning, "reconciliation failed, nothing more is marked until it is tried again",
               "reconciliation works again"),
      policy_(options_.policy) {}

Reconciler::~Reconciler() {
  stop();
}

void Reconciler::start() {
  thread_ = std::thread([this] {
    name_this_thread("reconciler");
    run();
    own_pulse_.rest();
  });
}

void Reconciler::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  turn_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Reconciler::reconfigure(const ReconcilePolicy& changed) {
  const std::lock_guard lock(mutex_);
  policy_ = changed;
  stop_.notify_all();
}

ReconcilePolicy Reconciler::policy() const {
  const std::lock_guard lock(mutex_);
  return policy_;
}

bool Reconciler::is_stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

ReconcilerStatus Reconciler::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void Reconciler::process_ended(std::string process, std::string connection) {
  const auto now = Clock::now();
  if (!process.empty() && connection.empty()) gone_.note(process, now);
  const std::lock_guard lock(mutex_);
  const auto due = now + policy_.grace + kAfterTheGrace;
  if (ended_.add({std::move(process), std::move(connection), due, 0})) stop_.notify_all();
}

PassHost Reconciler::host() {
  return {options_, recorder_, gone_, [this] { return is_stopping(); },
          [this](const PassReport& report) {
            const std::lock_guard lock(mutex_);
            status_.under_way = PassProgress{report.pass_id, report.examined, report.marked};
          }};
}

bool Reconciler::sleep_until(Clock::time_point until) {
  std::unique_lock lock(mutex_);
  return !wait_until(lock, until, [this] { return stopping_; });
}

bool Reconciler::wait_until(std::unique_lock<std::mutex>& lock, Clock::time_point until,
                            const std::function<bool()>& wake) {
  while (true) {
    own_pulse_.beat();
    const auto turn_ends = Clock::now() + kIdleTurn;
    if (stop_.wait_until(lock, std::min<Clock::time_point>(until, turn_ends), wake)) return true;
    if (until <= turn_ends) return false;
  }
}

// ---- when

void Reconciler::run() {
  if (!boot()) return;
  last_interval_ = Clock::now();
  while (true) {
    const Work work = wait_for_work();
    if (work == Work::kStop || (work != Work::kNothing && !wait_for_database())) return;
    switch (work) {
      case Work::kStop:
      case Work::kNothing:
        break;
      case Work::kSecondBoot:
        second_boot();
        break;
      case Work::kInterval:
        interval_pass();
        break;
      case Work::kEnded:
        look_at_ended();
        break;
    }
  }
}

// What is due first; kNothing: something has changed, to be asked again.
Reconciler::Work Reconciler::wait_for_work() {
  std::unique_lock lock(mutex_);
  const milliseconds interval = policy_.interval;
  Work work = interval.count() == 0 ? Work::kNothing : Work::kInterval;
  auto due = interval.count() == 0 ? Clock::now() + std::chrono::hours{24} : last_interval_ + interval;
  if (second_boot_ && second_boot_->due <= due) {
    work = Work::kSecondBoot;
    due = second_boot_->due;
  }
  const auto ended_due = [&]() -> std::optional<Clock::time_point> {
    const auto next = ended_.next_due();
    return next ? std::optional(std::max(*next, last_ended_look_ + kBetweenEndedLooks)) : std::nullopt;
  };
  if (const auto ended = ended_due(); ended && *ended <= due) {
    work = Work::kEnded;
    due = *ended;
  }
  const auto changed = [&] {
    const auto ended = ended_due();
    return stopping_ || policy_.interval != interval || (ended && *ended < due);
  };
  if (wait_until(lock, due, changed)) return stopping_ ? Work::kStop : Work::kNothing;
  return work;
}

bool Reconciler::wait_for_database() {
  while (recorder_.status().database != DatabaseState::kUp) {
    if (!sleep_until(Clock::now() + milliseconds{100})) return false;
  }
  return true;
}

Pass Reconciler::own_pass(PassPlan plan, PassConnections& connections) {
  return Pass(host_, std::move(plan), policy(), connections, own_pulse_);
}

// The boot pass: tried until it ends. A second one over the rows it deferred is due once the grace has ended.
bool Reconciler::boot() {
  while (true) {
    if (!wait_for_database()) return false;
    PassConnections connections;
    Pass pass = own_pass({.trigger = "boot", .boot = true}, connections);
    const auto outcome = try_pass(pass, own_pulse_);
    note(outcome);
    if (outcome) {
      plan_second_boot(pass, outcome.value());
      const std::lock_guard lock(mutex_);
      status_.boot_done = true;
      return !stopping_;
    }
    if (!sleep_until(Clock::now() + kRetryPause)) return false;
  }
}

// The rows that were too young then, and those that had to wait for another reason, by name; all of them where these
// were too many.
void Reconciler::plan_second_boot(Pass& pass, const PassReport& report) {
  if (report.deferred == 0) return;
  const milliseconds grace = policy().grace;
  PassPlan plan{.trigger = "boot", .boot = true, .within = EventWindow{.before = report.started_at}};
  if (!pass.too_many_deferred()) {
    plan.within->not_before = report.started_at - grace;
    plan.run_ids = pass.take_deferred();
  }
  second_boot_ = SecondBoot{std::move(plan), Clock::now() + grace + milliseconds{50}};
}

void Reconciler::second_boot() {
  PassConnections connections;
  Pass pass = own_pass(second_boot_->plan, connections);
  const auto outcome = try_pass(pass, own_pulse_);
  note(outcome);
  if (outcome && pass.unheard() == 0) {
    second_boot_.reset();
  } else {
    // It failed, or was deaf once more: as after a suspension of the host.
    second_boot_->due = Clock::now() + (outcome ? policy().grace : kRetryPause);
  }
}

void Reconciler::interval_pass() {
  last_interval_ = Clock::now();
  PassConnections connections;
  Pass pass = own_pass({.trigger = "interval"}, connections);
  note(try_pass(pass, own_pulse_));
}

// ---- what ended

void Reconciler::look_at_ended() {
  std::vector<ProcessEnd> ends;
  {
    const std::lock_guard lock(mutex_);
    last_ended_look_ = Clock::now();
    ends = ended_.take_due(last_ended_look_);
  }
  const Result<void> done = look_at_ended(ends);
  if (done) return;
  ended_connections_ = {};
  const bool conflict = done.error().kind == ErrorKind::kConflict;
  look_again(std::move(ends), conflict ? kEndedRetryPause : kRetryPause);
}

// Nothing is recorded where nothing would be marked. Keeps in `ends` what has to be looked at again where it fails.
Result<void> Reconciler::look_at_ended(std::vector<ProcessEnd>& ends) {
  Pass look = own_pass({.trigger = "process_end", .only_named = true}, ended_connections_);
  if (const auto came = look.wait_for_what_came(); !came) return came.error();
  if (const auto connected = look.connect(); !connected) return connected.error();
  auto found = look.look_at(ends);
  if (!found) return found.error();
  if (!found->stuck.empty()) {
    Pass pass = own_pass({.trigger = "process_end", .only_named = true, .run_ids = std::move(found->stuck)},
                         ended_connections_);
    const auto outcome = try_pass(pass, own_pulse_);
    note(outcome);
    if (!outcome) return outcome.error();
  }
  ends.clear();
  for (ProcessEnd& end : found->again) {
    const std::lock_guard lock(mutex_);
    if (++end.looks < kEndedLooks) ended_.add(std::move(end));
  }
  return {};
}

void Reconciler::look_again(std::vector<ProcessEnd> ends, Clock::duration after) {
  const std::lock_guard lock(mutex_);
  for (ProcessEnd& end : ends) {
    end.due = Clock::now() + after;
    if (++end.looks < kEndedLooks) ended_.add(std::move(end));
  }
}

// ---- one pass

void Reconciler::note(const Result<PassReport>& outcome) {
  const std::lock_guard lock(mutex_);
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
  if (report.marked > 0) {
    for (const auto& [reason, count] : report.reasons) status_.findings[reason] += count;
  }
  if (report.trigger == "process_end") return;
  status_.last_good_at = report.finished_at;
  status_.last = report;
  status_.last->runs.clear();
}

Result<PassReport> Reconciler::reconcile(const PassRequest& request) {
  PassConnections connections;
  Pass pass(host_, {.trigger = "request", .request = request}, policy(), connections, request_pulse_);
  auto outcome = try_pass(pass, request_pulse_);
  if (outcome || outcome.error().kind != ErrorKind::kConflict) note(outcome);
  return outcome;
}

// Waits for everything received so far, takes the turn and the lease, runs the pass.
Result<PassReport> Reconciler::try_pass(Pass& pass, Liveness& liveness) {
  {
    std::unique_lock lock(mutex_);
    if (const auto free = wait_for_turn(lock, liveness); !free) return free.error();
  }
  if (const auto came = pass.wait_for_what_came(); !came) return came.error();
  if (const auto connected = pass.connect(); !connected) return connected.error();
  auto outcome = take_turn(pass, liveness);
  if (&liveness == &request_pulse_) {
    liveness.rest();
  } else {
    liveness.beat();
  }
  return outcome;
}

// Passes of a moment come by themselves whenever a process ends: who asks for one waits for those, and is told of any
// other.
Result<void> Reconciler::wait_for_turn(std::unique_lock<std::mutex>& lock, const Liveness& liveness) {
  const auto settled = [this] { return stopping_ || !status_.running || !ended_under_way_; };
  if (&liveness == &request_pulse_) turn_.wait_for(lock, kTurnPatience, settled);
  if (stopping_) return stopping_error();
  if (status_.running) return Error{ErrorKind::kConflict, "another reconciliation is running"};
  return {};
}

Result<PassReport> Reconciler::take_turn(Pass& pass, const Liveness& liveness) {
  std::string pass_id;
  {
    std::unique_lock lock(mutex_);
    if (const auto free = wait_for_turn(lock, liveness); !free) return free.error();
    status_.running = true;
    ended_under_way_ = pass.trigger() == "process_end";
    pass_id = std::exchange(unused_pass_id_, {});
  }
  if (pass_id.empty()) pass_id = time_ordered_uuid(now_utc());
  bool has_turn = true;
  const auto end_turn = [this, &has_turn] {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(has_turn, false)) return;
    status_.running = false;
    status_.under_way.reset();
    turn_.notify_all();
  };
  auto outcome = pass.run(pass_id, end_turn);
  if (!outcome) pass.give_up();
  end_turn();
  const std::lock_guard lock(mutex_);
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
  return explanation(row, facts, judge(facts, rules_now(host_, now, {.trigger = "request"})));
}

}  // namespace run_recorder
