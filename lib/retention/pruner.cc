#include "retention/pruner.h"

#include <algorithm>
#include <utility>

#include "retention/retention.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPageRows = 1'000;
constexpr std::size_t kForgetAtOnce = 1'000;
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
  auto due = steady_clock::now() + std::min(kFirstPassWithin, std::max(policy().interval, milliseconds{1}));
  while (true) {
    MutexLock lock(mutex_);
    const milliseconds interval = policy_.interval;
    const std::uint64_t reconfigured = reconfigured_;
    const auto until = interval.count() == 0 ? steady_clock::now() + std::chrono::hours{24} : due;
    wait_until(lock, until, [&] {
      mutex_.assert_held();
      return stopping_ || reconfigured_ != reconfigured;
    });
    if (stopping_) {
      liveness_.rest();
      return;
    }
    if (reconfigured_ != reconfigured) {
      due = std::min(due, steady_clock::now() + std::min(kFirstPassWithin, policy_.interval));
      continue;
    }
    if (interval.count() == 0) continue;
    lock.unlock();
    due = steady_clock::now() + interval;
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
  while (true) {
    liveness_.beat();
    const auto forgotten = store.value()->forget_pruned(options_.remember, kForgetAtOnce);
    if (!forgotten) return forgotten.error();
    if (forgotten.value() < kForgetAtOnce || !pause(milliseconds{100})) break;
  }
  if (!shortest_retention(policy())) return PruneReport{};
  // What was received may contradict what the rows say: a stuck run's end, after a long outage.
  if (!recorder_.wait_applied(recorder_.accepted_seq(), kPatience)) return PruneReport{};
  return prune(*store.value(), PruneRequest{});
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
