#include "retention/pruner.h"

#include <algorithm>
#include <utility>

#include "retention/pass_limits.h"
#include "retention/retention.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPageRows = 1'000;
constexpr std::size_t kRowsAtOnce = 1'000;
// More than a spool remembers (kMostRemembered): a daemon of an earlier release does not say which it knows.
constexpr std::size_t kSparePositions = 64;
// Whoever lives shows itself within some seconds, and its positions within a minute.
constexpr std::chrono::minutes kClockSteadyFor{30};
constexpr milliseconds kLimitsEvery{3'600'000};  // where runs go only when asked
constexpr milliseconds kLongestPause{1'000};
constexpr milliseconds kFirstPassWithin{60'000};
constexpr milliseconds kPatience{60'000};
constexpr milliseconds kIdleTurn{5'000};
constexpr milliseconds kIdleTime{60'000};
constexpr std::chrono::minutes kPageTime{15};  // as many transactions as a page of rows can need

}  // namespace

Pruner::Pruner(PrunerOptions options, Recorder& recorder)
    : options_(std::move(options)),
      recorder_(recorder),
      liveness_(kPageTime),
      failing_(LogLevel::kWarning, "finished runs cannot be removed", "finished runs can be removed again"),
      limits_denied_(LogLevel::kWarning, "old rows of the recorder's own tables cannot be removed",
                     "old rows of the recorder's own tables can be removed again"),
      policy_(options_.policy) {}

Pruner::~Pruner() {
  stop();
}

void Pruner::start() {
  thread_ = std::thread([this] {
    name_this_thread("pruner");
    run();
  });
}

void Pruner::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Pruner::reconfigure(const RetentionPolicy& changed) {
  {
    const MutexLock lock(mutex_);
    policy_ = changed;
    ++reconfigured_;
  }
  wake_.notify_all();
}

RetentionPolicy Pruner::policy() const {
  const MutexLock lock(mutex_);
  return policy_;
}

PrunerStatus Pruner::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

bool Pruner::pause(milliseconds time) {
  MutexLock lock(mutex_);
  return !wake_.wait_for(lock, time, [this] {
    mutex_.assert_held();
    return stopping_;
  });
}

// Until `wake` holds or that time has come; beats meanwhile.
void Pruner::wait_until(MutexLock& lock, steady_clock::time_point until, const std::function<bool()>& wake) {
  while (true) {
    liveness_.beat(kIdleTime);
    const auto turn_ends = std::min<steady_clock::time_point>(until, steady_clock::now() + kIdleTurn);
    if (wake_.wait_until(lock, turn_ends, wake) || turn_ends == until) return;
  }
}

// ---- the regular passes

void Pruner::run() {
  const auto time_between = [](milliseconds interval) { return interval.count() == 0 ? kLimitsEvery : interval; };
  auto due = steady_clock::now() + std::min(kFirstPassWithin, time_between(policy().interval));
  while (true) {
    MutexLock lock(mutex_);
    const milliseconds interval = policy_.interval;
    const std::uint64_t reconfigured = reconfigured_;
    wait_until(lock, due, [&] {
      mutex_.assert_held();
      return stopping_ || reconfigured_ != reconfigured;
    });
    if (stopping_) {
      liveness_.rest();
      return;
    }
    if (reconfigured_ != reconfigured) {
      due = std::min(due, steady_clock::now() + std::min(kFirstPassWithin, time_between(policy_.interval)));
      continue;
    }
    lock.unlock();
    due = steady_clock::now() + time_between(interval);
    // While the database is away the next pass is in time.
    if (recorder_.status().database != DatabaseState::kUp) continue;
    const auto report = regular_pass();
    note(report.has_value());
    if (!report) {
      failing_.report(report.error().message);
      continue;
    }
    failing_.clear();
    if (report.value().runs > 0) {
      log_info("removed finished runs past their retention",
               {{"RUNS", report.value().runs}, {"EVENTS", report.value().events}});
    }
  }
}

void Pruner::note(bool succeeded) {
  const MutexLock lock(mutex_);
  status_.failing = !succeeded;
  if (succeeded) {
    status_.last_at = now_utc();
  } else if (!stopping_) {
    ++status_.failures;
  }
}

Result<PruneReport> Pruner::regular_pass() {
  liveness_.beat();
  auto store = open_store(options_.store);
  if (!store) return store.error();
  const RetentionPolicy policy = this->policy();
  RemovedRows removed;
  const auto held = hold_limits(*store.value(), policy, removed);
  count(removed);
  if (held) {
    limits_denied_.clear();
  } else if (held.error().kind == ErrorKind::kDenied) {
    limits_denied_.report(held.error().message);
  } else {
    return held.error();
  }
  if (policy.interval.count() == 0 || !shortest_retention(policy)) return PruneReport{};
  // What was received may contradict what the rows say: a stuck run's end, after a long outage.
  if (!recorder_.wait_applied(recorder_.accepted_seq(), kPatience)) return PruneReport{};
  return prune(*store.value(), PruneRequest{});
}

// ---- the limits of the recorder's own tables

Result<void> Pruner::hold_limits(Store& store, const RetentionPolicy& policy, RemovedRows& removed) {
  const auto forgotten = in_steps([&]() -> Result<std::uint64_t> {
    const auto some = store.forget_pruned(options_.remember, kRowsAtOnce);
    if (some) removed.run_ids += some.value();
    return some;
  });
  if (!forgotten) return forgotten;
  if (const auto done = remove_passes(store, policy, removed.passes); !done) return done;
  if (const auto done = forget_findings(store, policy, removed.findings); !done) return done;
  return forget_recorders(store, policy, removed);
}

Result<void> Pruner::remove_passes(Store& store, const RetentionPolicy& policy, std::uint64_t& removed) {
  PassLimits limits(policy.passes);
  std::string cursor;
  do {
    liveness_.beat();
    const auto began = steady_clock::now();
    const auto page = store.aged_passes(kRowsAtOnce, cursor);
    if (!page) return page.error();
    std::vector<std::string> going;
    for (const AgedPass& pass : page.value().passes) {
      if (limits.goes(pass)) going.push_back(pass.pass_id);
    }
    const auto gone = store.remove_passes(going);
    if (!gone) return gone.error();
    removed += gone.value();
    cursor = page.value().next;
    const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
    if (!cursor.empty() && !pause(std::min(took, kLongestPause))) break;
  } while (!cursor.empty());
  return {};
}

Result<void> Pruner::forget_findings(Store& store, const RetentionPolicy& policy, std::uint64_t& removed) {
  if (policy.passes.count() == 0) return {};
  return in_steps([&]() -> Result<std::uint64_t> {
    const auto some = store.forget_findings(policy.passes, kRowsAtOnce);
    if (some) removed += *some;
    return some;
  });
}

// A position may go where no spool can refer to it any more. A spool refers to those of the incarnations it knows; as
// long as it has a daemon that daemon renews their times (Store::keep_positions()), and a copy of it knows none that
// it did not know itself when the copy was made. So whatever spool has been used, or copied, within that time finds
// all of its positions. Of one that was not, a position that is missing says that its records are still to be
// applied; it never makes a record look applied.
Result<void> Pruner::forget_recorders(Store& store, const RetentionPolicy& policy, RemovedRows& removed) {
  const auto now = store.database_now();
  if (!now) return now.error();
  const milliseconds watched =
      policy.interval.count() == 0 ? kClockSteadyFor : std::min<milliseconds>(policy.interval, kClockSteadyFor);
  const bool steady = clock_watch_.steady_for(watched, now.value(), steady_clock::now());
  if (!steady || policy.recorders.count() == 0) return {};
  const auto positions = in_steps([&]() -> Result<std::uint64_t> {
    const auto some = store.forget_positions(policy.recorders, kSparePositions, kRowsAtOnce);
    if (some) removed.positions += some.value();
    return some;
  });
  if (!positions) return positions;
  return in_steps([&]() -> Result<std::uint64_t> {
    const auto some = store.forget_recorders(policy.recorders, kRowsAtOnce);
    if (!some) return some.error();
    removed.recorders += some.value().recorders;
    removed.positions += some.value().positions;
    return some.value().recorders;
  });
}

Result<void> Pruner::in_steps(const std::function<Result<std::uint64_t>()>& remove_some) {
  while (true) {
    liveness_.beat();
    const auto began = steady_clock::now();
    const auto removed = remove_some();
    if (!removed) return removed.error();
    const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
    if (removed.value() < kRowsAtOnce || !pause(std::min(took, kLongestPause))) return {};
  }
}

void Pruner::count(const RemovedRows& removed) {
  if (removed.passes + removed.positions + removed.recorders + removed.run_ids + removed.findings == 0) return;
  log_info("removed old rows of the recorder's own tables", {{"PASSES", removed.passes},
                                                             {"POSITIONS", removed.positions},
                                                             {"RECORDERS", removed.recorders},
                                                             {"RUN_IDS", removed.run_ids},
                                                             {"FINDINGS", removed.findings}});
  const MutexLock lock(mutex_);
  status_.rows.passes += removed.passes;
  status_.rows.positions += removed.positions;
  status_.rows.recorders += removed.recorders;
  status_.rows.run_ids += removed.run_ids;
  status_.rows.findings += removed.findings;
}

// ---- one pass

Result<PruneReport> Pruner::prune(Store& store, const PruneRequest& request) {
  const RetentionPolicy policy = this->policy();
  PrunePlan plan(request, policy);
  const auto done = prune_pages(store, plan, request);
  const PruneReport& report = plan.report();
  // Also where it did not come to its end: what went is gone.
  if (!request.dry_run && !request.asked_by.empty() && report.runs > 0) {
    log_info("removed finished runs on request", {{"RUNS", report.runs},
                                                  {"EVENTS", report.events},
                                                  {"USER", request.asked_by},
                                                  {"POLICY", rule_in_words(request, policy)}});
  }
  if (!done) return done.error();
  return report;
}

Result<void> Pruner::prune_pages(Store& store, PrunePlan& plan, const PruneRequest& request) {
  PruneReport& report = plan.report();
  const auto shortest = plan.shortest();
  if (!shortest) {
    report.nothing_due = true;
    report.next.clear();
    return {};
  }
  const auto now = store.database_now();
  if (!now) return now.error();
  // Neither a row's last event nor what was found of it is older than the row.
  const Timestamp before = now.value() - *shortest;
  do {
    if (std::this_thread::get_id() == thread_.get_id()) liveness_.beat();
    const std::size_t room = request.limit == 0 ? kPageRows : request.limit - report.examined;
    const auto page = store.aged_rows(before, std::min(room, kPageRows), report.next);
    if (!page) return page.error();
    if (const auto done = prune_page(store, plan, page.value().rows); !done) return done.error();
    report.next = page.value().next;
  } while (!report.next.empty() && (request.limit == 0 || report.examined < request.limit) && pause(milliseconds{0}));
  return {};
}

Result<void> Pruner::prune_page(Store& store, PrunePlan& plan, const std::vector<AgedRow>& rows) {
  for (const AgedRow& row : rows) {
    if (plan.examine(row)) {
      auto chain = store.aged_chain(row.run_id, PrunePlan::kLongestChain + 1);
      if (!chain) return chain.error();
      plan.examine_chain(row, std::move(chain.value()));
    }
    if (const auto full = plan.take_group(false)) {
      if (const auto removed = remove(store, plan, *full); !removed) return removed;
    }
  }
  const auto left = plan.take_group(true);
  return left ? remove(store, plan, *left) : Result<void>();
}

// Rests as long as it worked: others get their turn.
Result<void> Pruner::remove(Store& store, PrunePlan& plan, const PrunePlan::Group& group) {
  const auto began = steady_clock::now();
  const auto removed = store.prune(group.chains);
  if (!removed) return removed.error();
  plan.removed(group, removed.value());
  {
    const MutexLock lock(mutex_);
    status_.runs += removed.value().runs;
    status_.events += removed.value().events;
  }
  const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
  if (!pause(std::min(took, kLongestPause))) return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
  return {};
}

}  // namespace run_recorder
