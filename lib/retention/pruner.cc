#include "retention/pruner.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "retention/retention.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPageRows = 1'000;
// One transaction removes at most so many, beyond its first chain.
constexpr std::size_t kRunsAtOnce = 250;
constexpr std::uint64_t kEventsAtOnce = 2'500;
// A chain that is longer stays.
constexpr std::size_t kLongestChain = 10'000;
constexpr std::size_t kForgetAtOnce = 1'000;
constexpr std::size_t kVerdictsKept = 100'000;
constexpr milliseconds kLongestPause{1'000};
constexpr milliseconds kFirstLook{60'000};
constexpr milliseconds kPatience{60'000};
constexpr milliseconds kIdleTurn{5'000};
constexpr milliseconds kIdleTime{60'000};
constexpr std::chrono::minutes kPageTime{15};  // as many transactions as a page of rows can need

}  // namespace

JsonText PruneReport::to_json() const {
  return fmt::format(
      "{{\"dry_run\":{},\"examined\":{},\"runs\":{},\"events\":{},\"kept\":{},\"nothing_due\":{},\"next\":{}}}",
      dry_run, examined, runs, events, kept, nothing_due, next.empty() ? "null" : json_string(next));
}

struct Pruner::Look {
  const PruneRequest& request;
  RetentionPolicy policy;
  Store& store;
  PruneReport report;
  std::map<std::string, bool, std::less<>> judged;  // runs of chains that were judged as a whole: do they go?
  std::vector<std::vector<AgedRow>> chains;         // to be removed in one transaction
  std::size_t runs = 0;
  std::uint64_t events = 0;

  bool wanted(const AgedRow& row) const {
    const bool status = request.statuses.empty() || std::ranges::count(request.statuses, row.status) > 0;
    return status && (!request.council || *request.council == row.council);
  }
  bool is_over(const AgedRow& row) const {
    return wanted(row) && is_expired(policy, row.status, row.council, row.age);
  }
};

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

// ---- the regular looks

void Pruner::run() {
  auto due = steady_clock::now() + std::min(kFirstLook, std::max(policy().interval, milliseconds{1}));
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
      due = std::min(due, steady_clock::now() + std::min(kFirstLook, policy_.interval));
      continue;
    }
    if (interval.count() == 0) continue;
    lock.unlock();
    due = steady_clock::now() + interval;
    // While the database is away the next look is in time.
    if (recorder_.status().database != DatabaseState::kUp) continue;
    const auto report = look_through();
    if (!report) {
      failing_.report(report.error().message);
      continue;
    }
    failing_.clear();
    if (report.value().runs > 0) {
      log_info("removed finished runs past their retention",
               {{"RUNS", report.value().runs}, {"EVENTS", report.value().events}});
    }
    const MutexLock done(mutex_);
    status_.last_at = now_utc();
  }
}

Result<PruneReport> Pruner::look_through() {
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

// ---- finding

Result<PruneReport> Pruner::prune(Store& store, const PruneRequest& request) {
  Look look{request, policy(), store, {}, {}, {}, 0, 0};
  if (request.older_than) look.policy = RetentionPolicy{.keep = *request.older_than};
  look.report.dry_run = request.dry_run;
  const auto shortest = shortest_retention(look.policy);
  if (!shortest) {
    look.report.nothing_due = true;
    return look.report;
  }
  const auto now = store.database_now();
  if (!now) return now.error();
  // Neither a row's last event nor what was found of it is older than the row.
  const Timestamp before = now.value() - *shortest;
  look.report.next = request.cursor;
  do {
    if (std::this_thread::get_id() == thread_.get_id()) liveness_.beat();
    const std::size_t room = request.limit == 0 ? kPageRows : request.limit - look.report.examined;
    const auto page = store.aged_rows(before, std::min(room, kPageRows), look.report.next);
    if (!page) return page.error();
    if (const auto judged = judge_page(look, page.value().rows); !judged) return judged.error();
    look.report.next = page.value().next;
  } while (!look.report.next.empty() && (request.limit == 0 || look.report.examined < request.limit) &&
           pause(milliseconds{0}));
  return look.report;
}

Result<void> Pruner::judge_page(Look& look, const std::vector<AgedRow>& rows) {
  for (const AgedRow& row : rows) {
    ++look.report.examined;
    if (!look.is_over(row)) continue;
    auto verdict = look.judged.find(row.run_id);
    const bool known = verdict != look.judged.end();
    std::vector<AgedRow> chain{row};
    bool goes = known ? verdict->second : !row.dead_letter;
    if (!known && row.linked) {
      auto whole = judge_chain(look, row);
      if (!whole) return whole.error();
      goes = !whole.value().empty();
      chain = std::move(whole.value());
    }
    if (!goes) {
      ++look.report.kept;
    } else if (look.request.dry_run) {
      ++look.report.runs;
      look.report.events += static_cast<std::uint64_t>(row.last_seq);
    } else if (!known) {
      if (const auto added = add(look, std::move(chain)); !added) return added;
    }
  }
  return remove(look);
}

// The chain, or nothing where it stays.
Result<std::vector<AgedRow>> Pruner::judge_chain(Look& look, const AgedRow& row) {
  auto chain = look.store.aged_chain(row.run_id, kLongestChain + 1);
  if (!chain) return chain;
  std::vector<AgedRow>& members = chain.value();
  const bool goes = members.size() <= kLongestChain && std::ranges::all_of(members, [&](const AgedRow& member) {
                      return look.is_over(member) && !member.dead_letter;
                    });
  if (look.judged.size() > kVerdictsKept) look.judged.clear();
  for (const AgedRow& member : members) look.judged[member.run_id] = goes;
  if (!goes) members.clear();
  return chain;
}

Result<void> Pruner::add(Look& look, std::vector<AgedRow> chain) {
  std::uint64_t events = 0;
  for (const AgedRow& row : chain) events += static_cast<std::uint64_t>(row.last_seq);
  const bool full = look.runs + chain.size() > kRunsAtOnce || look.events + events > kEventsAtOnce;
  if (full) {
    if (const auto removed = remove(look); !removed) return removed;
  }
  look.runs += chain.size();
  look.events += events;
  look.chains.push_back(std::move(chain));
  return {};
}

// Rests as long as it worked: others get their turn.
Result<void> Pruner::remove(Look& look) {
  const std::vector<std::vector<AgedRow>> chains = std::exchange(look.chains, {});
  const std::uint64_t runs = std::exchange(look.runs, 0);
  look.events = 0;
  if (chains.empty()) return {};
  const auto began = steady_clock::now();
  const auto removed = look.store.prune(chains);
  if (!removed) return removed.error();
  look.report.runs += removed.value().runs;
  look.report.events += removed.value().events;
  look.report.kept += runs - removed.value().runs;
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
