// Removes finished runs whose time is over (config [retention]), with their history: chain by chain, in small
// transactions with pauses between, so that the recorder's own go on. One thread of its own for the regular looks;
// prune() runs on its caller's thread. All public functions are safe together, and across daemons.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "config/policies.h"
#include "recorder/recorder.h"

namespace run_recorder {

struct PrunerOptions {
  RetentionPolicy policy;
  StoreOptions store;
  // How long the ids of removed runs are remembered, so that an event that comes again makes no new row.
  std::chrono::milliseconds remember{std::chrono::hours{24 * 30}};
};

struct PruneRequest {
  bool dry_run = false;
  // Which runs; a chain goes only where all of its runs are such.
  std::vector<Status> statuses;
  std::optional<std::string> council;
  std::optional<std::chrono::milliseconds> older_than;  // instead of the policy's times
  std::size_t limit = 0;                                // look at so many rows; 0: at all
  std::string cursor;                                   // where an earlier request ended
};

struct PruneReport {
  bool dry_run = false;
  std::uint64_t examined = 0;
  std::uint64_t runs = 0;    // removed, or that would be
  std::uint64_t events = 0;  // of their history
  std::uint64_t kept = 0;    // their time is over, but a run of their chain stays, or a dead letter of theirs
  bool nothing_due = false;  // no run's time is ever over
  std::string next;          // a cursor; empty: at the end
  JsonText to_json() const;
};

struct PrunerStatus {
  std::uint64_t runs = 0;  // removed by this process
  std::uint64_t events = 0;
  std::optional<Timestamp> last_at;  // when the last regular look ended
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

  // kInvalid: a cursor that is none; else what the store says.
  Result<PruneReport> prune(Store& store, const PruneRequest& request);
  PrunerStatus status() const;
  // For the watchdog: a regular look has made no progress for too long.
  bool stuck() const { return liveness_.missed(); }

 private:
  struct Look;  // one under way

  void run();
  Result<PruneReport> look_through();
  Result<void> judge_page(Look& look, const std::vector<AgedRow>& rows);
  static Result<std::vector<AgedRow>> judge_chain(Look& look, const AgedRow& row);
  Result<void> add(Look& look, std::vector<AgedRow> chain);
  Result<void> remove(Look& look);
  bool pause(std::chrono::milliseconds time);  // false: stopping
  void wait_until(MutexLock& lock, std::chrono::steady_clock::time_point until, const std::function<bool()>& wake)
      REQUIRES(mutex_);
  RetentionPolicy policy() const;

  const PrunerOptions options_;
  Recorder& recorder_;
  std::thread thread_;
  Liveness liveness_;  // of the regular looks
  RepeatGuard failing_;

  mutable Mutex mutex_;
  Condition wake_;
  RetentionPolicy policy_ GUARDED_BY(mutex_);
  PrunerStatus status_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::uint64_t reconfigured_ GUARDED_BY(mutex_) = 0;
};

}  // namespace run_recorder
