// Removes finished runs whose time is over (config [retention]), with their history: chain by chain, in small
// transactions with pauses between, so that the recorder's own go on. The regular passes also hold the limits of the
// recorder's own tables, whatever is kept of runs: reports of passes, recorders, positions, ids of removed runs. One
// thread of its own for the regular passes; prune() runs on its caller's thread. All public functions are safe
// together, and across daemons.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock_watch.h"
#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "config/policies.h"
#include "recorder/recorder.h"
#include "retention/prune_plan.h"

namespace run_recorder {

struct PrunerOptions {
  RetentionPolicy policy;
  StoreOptions store;
  // How long the ids of removed runs are remembered, so that an event that comes again makes no new row.
  std::chrono::milliseconds remember{std::chrono::hours{24 * 30}};
};

// Rows of the recorder's own tables that were removed.
struct RemovedRows {
  std::uint64_t passes = 0;
  std::uint64_t positions = 0;
  std::uint64_t recorders = 0;
  std::uint64_t run_ids = 0;   // of removed runs
  std::uint64_t findings = 0;  // of expectations
};

struct PrunerStatus {
  std::uint64_t runs = 0;  // removed by this process
  std::uint64_t events = 0;
  RemovedRows rows{};
  std::uint64_t failures = 0;        // regular passes that could not come to their end
  std::optional<Timestamp> last_at;  // when the last regular pass ended well
  bool failing = false;              // the latest regular pass failed
};

class Pruner {
 public:
  Pruner(PrunerOptions options, Recorder& recorder);
  ~Pruner();
  Pruner(const Pruner&) = delete;
  Pruner& operator=(const Pruner&) = delete;

  void start();
  void stop();
  void reconfigure(const RetentionPolicy& policy);

  // Does what it is asked and returns when it is done, as far as limit allows; what went on request is logged with
  // who asked. kInvalid: a cursor that is none; kUnavailable: the daemon is stopping; else what the store says.
  Result<PruneReport> prune(Store& store, const PruneRequest& request);
  PrunerStatus status() const;
  // For the watchdog: a regular pass has made no progress for too long.
  bool stuck() const { return liveness_.missed(); }

 private:
  void run();
  Result<PruneReport> regular_pass();
  // Some of them may be done where it ends with an error. kDenied: this role may not remove them.
  Result<void> hold_limits(Store& store, const RetentionPolicy& policy, RemovedRows& removed);
  Result<void> remove_passes(Store& store, const RetentionPolicy& policy, std::uint64_t& removed);
  Result<void> forget_findings(Store& store, const RetentionPolicy& policy, std::uint64_t& removed);
  Result<void> forget_recorders(Store& store, const RetentionPolicy& policy, RemovedRows& removed);
  void count(const RemovedRows& removed);
  // Repeats a bounded removal, which says how many rows it removed, until it finds less than kRowsAtOnce.
  Result<void> in_steps(const std::function<Result<std::uint64_t>()>& remove_some);
  void note(bool succeeded);  // a regular pass
  Result<void> prune_pages(Store& store, PrunePlan& plan, const PruneRequest& request);
  Result<void> prune_page(Store& store, PrunePlan& plan, const std::vector<AgedRow>& rows);
  Result<void> remove(Store& store, PrunePlan& plan, const PrunePlan::Group& group);
  bool pause(std::chrono::milliseconds time);  // false: stopping
  void wait_until(MutexLock& lock, std::chrono::steady_clock::time_point until, const std::function<bool()>& wake)
      REQUIRES(mutex_);
  RetentionPolicy policy() const;

  const PrunerOptions options_;
  Recorder& recorder_;
  std::thread thread_;
  Liveness liveness_;  // of the regular passes
  RepeatGuard failing_;
  RepeatGuard limits_denied_;
  ClockWatch clock_watch_;  // the thread's

  mutable Mutex mutex_;
  Condition wake_;
  RetentionPolicy policy_ GUARDED_BY(mutex_);
  PrunerStatus status_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::uint64_t reconfigured_ GUARDED_BY(mutex_) = 0;
};

}  // namespace run_recorder
