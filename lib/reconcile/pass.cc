#include "reconcile/pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <thread>
#include <utility>

#include "base/url.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLease{60'000};
constexpr milliseconds kRequestPatience{10'000};
constexpr milliseconds kLeaseRenewed{10'000};
constexpr milliseconds kBarrierTime{10'000};  // longer than a peer may stall the event socket
constexpr milliseconds kTurn{100};
constexpr std::size_t kNamedCouncils = 1'000;  // of running rows
// How far back the last starts and successes are looked for: what happens after the start this process sees itself,
// but for what is brought in, as by an import.
constexpr std::size_t kRowsAtBoot = 200'000;
constexpr std::size_t kRowsSinceThen = 10'000;

milliseconds between(steady_clock::time_point then, steady_clock::time_point now) {
  return std::chrono::duration_cast<milliseconds>(now - then);
}

}  // namespace

Error stopping_error() {
  return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
}

EvidenceOptions evidence_options(const PassHost& host, const ReconcilePolicy& policy, Store& store) {
  EvidenceOptions options;
  options.clock = host.options.clock;
  const auto now = options.clock();
  const RecorderSelf self = host.recorder.self();
  options.recorder = self.id;
  options.incarnation = self.incarnation;
  options.grace = policy.grace;
  options.recorder_timeout = policy.recorder_timeout;
  options.connection_open = host.options.connection_open;
  options.on_living_worker = host.options.watch;
  options.beat_since = [&recorder = host.recorder](const std::string& run_id, steady_clock::time_point then) {
    return recorder.beat_since(run_id, then);
  };
  options.gone = &host.gone;
  // SQLite's clock is this host's: what this process saw of it tells whether events from its future are old.
  if (host.options.listening && database_kind(host.options.store.url) == DatabaseKind::kSqlite) {
    options.future_is_old = between(host.options.listening().clock_since, now) >= policy.grace;
  }
  // Others could not be seen while the server was down, or out of this daemon's reach.
  if (const auto age = store.server_age(); age && age.value()) options.could_be_seen_for = *age.value();
  if (const auto back = host.recorder.back_since()) {
    options.could_be_seen_for =
        std::min(options.could_be_seen_for.value_or(between(*back, now)), between(*back, now));
  }
  return options;
}

Rules rules_now(const PassHost& host, const ReconcilePolicy& policy, const Plan& plan) {
  Rules rules;
  rules.boot = plan.trigger == PassTrigger::kBoot;
  rules.unvouched = plan.request.unvouched;
  rules.policy = policy;
  if (host.options.listening) rules.listening_for = between(host.options.listening().since, host.options.clock());
  return rules;
}

// ---- what it waits for

Result<void> Pass::wait_until_applied() {
  const auto give_up = now() + kRequestPatience;
  const bool asked_for = plan_.trigger == PassTrigger::kRequest;
  bool barrier_passed = !host_.options.read_barrier;
  std::uint64_t received = host_.recorder.accepted_seq();
  while (true) {
    if (!barrier_passed) {
      const auto left = between(now(), give_up);
      barrier_passed = host_.options.read_barrier(asked_for ? std::clamp(left, kTurn, kBarrierTime) : kBarrierTime);
      received = host_.recorder.accepted_seq();
    }
    if (barrier_passed && host_.recorder.wait_settled(kTurn) && host_.recorder.wait_applied(received, kTurn))
      return {};
    if (!asked_for) liveness_.beat();
    if (host_.stopping()) return stopping_error();
    if (asked_for && now() >= give_up) {
      const std::string why = host_.recorder.status().database_error;
      return Error{ErrorKind::kUnavailable,
                   fmt::format("events received before the pass were not applied within 10 s{}{}",
                               why.empty() ? "" : ": the database is away: ", why)};
    }
    if (!barrier_passed)
      std::this_thread::sleep_for(kTurn);  // the event server cannot tell now, as when file descriptors are short
  }
}

Result<bool> Pass::pass_read_barrier() {
  if (host_.options.read_barrier && !host_.options.read_barrier(kBarrierTime)) return false;
  const std::uint64_t accepted = host_.recorder.accepted_seq();
  while (!host_.recorder.wait_applied(accepted, kTurn)) {
    liveness_.beat();
    if (host_.stopping()) return stopping_error();
    if (leased_ && between(lease_renewed_, now()) > kLeaseRenewed) {
      if (const auto renewed = renew_lease(); !renewed) return renewed.error();
    }
  }
  return true;
}

Result<void> Pass::connect() {
  // Until the recorder has found its tables, its own error says why; the pass would only find that they are missing.
  if (!host_.recorder.wait_tables(milliseconds{0})) {
    const RecorderStatus status = host_.recorder.status();
    if (!status.database_error.empty()) {
      return Error{ErrorKind::kUnavailable, "the database is away: " + status.database_error};
    }
    return Error{ErrorKind::kUnavailable, "the database is being migrated"};
  }
  StoreOptions store_options = host_.options.store;
  if (plan_.trigger == PassTrigger::kRequest)
    store_options.connect_timeout = std::min(store_options.connect_timeout, kRequestPatience);
  const auto open = [&](std::unique_ptr<Store>& store) -> Result<void> {
    if (store) return {};
    auto opened = open_store(store_options);
    if (!opened) return Error{ErrorKind::kUnavailable, opened.error().message};
    store = std::move(opened.value());
    return {};
  };
  if (const auto done = open(connections_.store); !done) return done;
  if (!plan_.only_named) {
    if (const auto done = open(connections_.reader); !done) return done;
  }
  if (host_.options.make_queue && !connections_.queue) connections_.queue = host_.options.make_queue();
  return {};
}

void Pass::prepare_evidence() {
  recorder_ = host_.recorder.self().id;
  EvidenceOptions options = evidence_options(host_, policy_, *connections_.store);
  future_is_old_ = options.future_is_old;
  evidence_ = std::make_unique<EvidenceGatherer>(std::move(options), connections_.queue.get());
}

// ---- from the lease to the report

Result<PassReport> Pass::run(std::string pass_id, const std::function<void()>& released) {
  if (const auto begun = begin(std::move(pass_id)); !begun) return begun.error();
  const bool breaker = policy_.max_stuck > 0 && !plan_.request.force && !plan_.request.dry_run;
  if (breaker) {
    if (const auto counted = check_breaker(); !counted) return counted.error();
  }
  if (!report_.stopped) {
    if (const auto done = scan(!plan_.request.dry_run); !done) return done.error();
  }
  if (const auto done = finish(released); !done) return done.error();
  return report_;
}

Result<void> Pass::begin(std::string pass_id) {
  assert(!leased_);
  liveness_.beat();
  report_.pass_id = std::move(pass_id);
  report_.trigger = plan_.trigger;
  report_.dry_run = plan_.request.dry_run;
  const auto lease = connections_.store->acquire_lease(kPassLease, host_.recorder.self().id, kLease);
  if (!lease) return lease.error();
  if (!lease.value()) return Error{ErrorKind::kConflict, "another daemon is reconciling this database"};
  leased_ = true;
  lease_renewed_ = now();
  const auto started = connections_.store->database_now();
  if (!started) return started.error();
  report_.started_at = started.value();
  prepare_evidence();
  return save();
}

// The breaker: judges all rows and marks nothing.
Result<void> Pass::check_breaker() {
  if (const auto counted = scan(false); !counted) return counted.error();
  report_.stopped = report_.stuck > policy_.max_stuck;
  if (report_.stopped) {
    report_.stopped_because = fmt::format(
        "would mark {} rows stuck, more than max_stuck ({}): nothing was marked; check the runs, then confirm "
        "with run-recorder reconcile --force{}",
        report_.stuck, policy_.max_stuck,
        plan_.trigger == PassTrigger::kBoot || plan_.request.unvouched ? " --unvouched" : "");
    return {};
  }
  PassReport fresh;
  fresh.pass_id = report_.pass_id;
  fresh.trigger = report_.trigger;
  fresh.started_at = report_.started_at;
  report_ = std::move(fresh);
  return {};
}

Result<void> Pass::finish(const std::function<void()>& released) {
  liveness_.beat();
  const auto finished = connections_.store->database_now();
  if (!finished) return finished.error();
  report_.finished_at = finished.value();
  // Whoever sees that it has finished may ask for another one.
  if (const auto done = connections_.store->release_lease(kPassLease, host_.recorder.self().id); !done)
    return done.error();
  leased_ = false;
  released();
  if (const auto saved = save(); !saved) return saved.error();
  log_summary();
  if (!plan_.only_named) read_for_metrics();
  return {};
}

// A pass over all rows is rare enough to count them; what cannot be counted is left out.
void Pass::read_for_metrics() {
  liveness_.beat();
  Store& store = *connections_.store;
  const auto counted = store.count_by_status();
  if (!counted) return;
  runs_by_status_ = counted.value();
  const auto running = store.running_councils(kNamedCouncils);
  if (!running) return;
  const std::size_t rows = plan_.trigger == PassTrigger::kBoot ? kRowsAtBoot : kRowsSinceThen;
  const auto recent = store.recent_councils(host_.recorder.self().id, rows, CouncilCounts::kCouncils);
  if (!recent) return;
  CouncilCounts& councils = host_.recorder.councils();
  councils.read(recent.value(), now_utc());
  councils.counted(running.value());
}

// A pass that failed half-way, or was stopped, does not keep others waiting. Where this fails too, the lease expires.
void Pass::give_up() {
  if (leased_) static_cast<void>(connections_.store->release_lease(kPassLease, host_.recorder.self().id));
  leased_ = false;
}

Result<void> Pass::save() {
  ReconciliationRow row;
  row.pass_id = report_.pass_id;
  row.recorder = host_.recorder.self().id;
  row.trigger = to_string(report_.trigger);
  row.started_at = report_.started_at;
  if (report_.finished_at != Timestamp{}) row.finished_at = report_.finished_at;
  row.report = report_.to_json();
  return connections_.store->save_reconciliation(row);
}

Result<void> Pass::renew_lease() {
  const auto lease = connections_.store->acquire_lease(kPassLease, host_.recorder.self().id, kLease);
  if (!lease) return lease.error();
  if (!lease.value()) return Error{ErrorKind::kConflict, "another daemon took over the reconciliation"};
  lease_renewed_ = now();
  return {};
}

std::optional<std::vector<std::string>> Pass::take_deferred() {
  if (too_many_deferred_) return std::nullopt;
  return std::move(deferred_);
}

}  // namespace run_recorder
