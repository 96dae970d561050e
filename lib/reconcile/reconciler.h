// Compares the rows that say running with what is really alive, marks the orphaned ones stuck, and reports why
// (contract section 6): this is who decides when; reconcile/pass.h is one pass. One thread of its own for the passes
// that nobody asks for; reconcile() and explain() run on their caller's thread. All public functions are safe
// together; one pass at a time in this process, and by a lease across daemons.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "reconcile/pass.h"
#include "reconcile/schedule.h"

namespace run_recorder {

// How far a pass under way has come; with max_stuck it judges all rows twice.
struct PassProgress {
  std::string pass_id;
  std::uint64_t examined = 0;
  std::uint64_t marked = 0;
};

struct ReconcilerStatus {
  std::uint64_t passes = 0;   // that came to their end
  std::uint64_t stopped = 0;  // of these, by the breaker
  std::uint64_t failures = 0;
  std::map<std::string, std::uint64_t> findings;  // by reason, of all passes of this process that marked
  std::optional<PassReport> last;                 // over all rows; without its runs
  std::optional<Timestamp> last_good_at;
  std::optional<std::map<Status, std::uint64_t>> runs_by_status;  // as that pass left them
  bool boot_done = false;                                         // the first boot pass has ended
  bool running = false;
  std::optional<PassProgress> under_way;  // once it has begun to judge rows
};

class Reconciler {
 public:
  Reconciler(ReconcilerOptions options, Recorder& recorder);
  ~Reconciler();
  Reconciler(const Reconciler&) = delete;
  Reconciler& operator=(const Reconciler&) = delete;

  void start();
  void stop();
  void reconfigure(const ReconcilePolicy& policy);

  // A process has ended, or a sender's connection to it; either may be empty. Its rows are judged once the grace is
  // over. Does not block.
  void process_ended(std::string process, std::string connection);

  // A pass on request, done when it returns. kConflict: another runs, but for a short one over a process that ended;
  // kUnavailable: the database is away, or what was received could not be applied within 10 s.
  Result<PassReport> reconcile(const PassRequest& request);
  // Each rule's answer for one row now, as JSON. kNotFound; else the store's errors.
  Result<JsonText> explain(Store& store, std::string_view run_id);

  ReconcilerStatus status() const;

  // For the watchdog: the reconciler's own thread, or a pass on request, makes no progress.
  bool stuck() const { return own_liveness_.missed() || request_liveness_.missed(); }

 private:
  using Clock = std::chrono::steady_clock;
  // ---- of the reconciler's own thread (own_passes.cc)
  void run();
  bool boot();                                    // false: stopping
  std::optional<Schedule::Work> wait_for_work();  // empty: stopping
  void second_boot();
  void interval_pass();
  void check_ended();
  Result<void> check_ended(std::vector<ProcessEnd>& ends);
  bool wait_for_database();                   // false: stopping
  bool sleep_until(Clock::time_point until);  // false: stopping
  // Whether `wake` holds before that time, by the options' clock, which is asked again whenever stop_ is notified.
  // Shows liveness meanwhile.
  bool wait_until(MutexLock& lock, Clock::time_point until, const std::function<bool()>& wake) REQUIRES(mutex_);
  Pass own_pass(Plan plan, PassConnections& connections);

  // ---- of any thread
  Result<PassReport> try_pass(Pass& pass, Liveness& liveness);
  Result<void> wait_for_turn(MutexLock& lock, const Liveness& liveness) REQUIRES(mutex_);
  Result<PassReport> take_turn(Pass& pass, const Liveness& liveness);
  PassHost host();
  bool is_stopping() const;
  ReconcilePolicy policy() const;
  void note(const Result<PassReport>& outcome);

  const ReconcilerOptions options_;
  Recorder& recorder_;
  GoneSince gone_;
  const PassHost host_;
  std::thread thread_;
  PassConnections ended_connections_;  // of its own thread; kept: something may have ended every second
  Liveness own_liveness_;
  Liveness request_liveness_;  // of the one pass that runs for a request

  mutable Mutex mutex_;
  Condition stop_;
  Condition turn_;  // a pass has ended
  RepeatGuard left_ GUARDED_BY(mutex_);
  RepeatGuard failing_ GUARDED_BY(mutex_);
  ReconcilePolicy policy_ GUARDED_BY(mutex_);
  ReconcilerStatus status_ GUARDED_BY(mutex_);
  Schedule schedule_ GUARDED_BY(mutex_);
  // Of a pass that failed before it marked anything: its row is used again.
  std::string unused_pass_id_ GUARDED_BY(mutex_);
  bool ended_under_way_ GUARDED_BY(mutex_) = false;  // the pass that runs is one over processes that have ended
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace run_recorder
