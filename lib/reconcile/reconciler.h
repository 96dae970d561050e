// Compares the rows that say running with what is really alive, marks the orphaned ones stuck, and reports why (SPEC
// section 6): this is who decides when; reconcile/pass.h is one pass. One thread of its own for the passes that
// nobody asks for; reconcile() and explain() run on their caller's thread. All public functions are safe together;
// one pass at a time in this process, and by a lease across daemons.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/liveness.h"
#include "base/log.h"
#include "process/ended_processes.h"
#include "reconcile/pass.h"

namespace run_recorder {

// How far a pass under way has come; with max_stuck on it looks through all rows twice.
struct PassProgress {
  std::string pass_id;
  std::uint64_t examined = 0;
  std::uint64_t marked = 0;
};

struct ReconcilerStatus {
  std::uint64_t passes = 0;  // finished
  std::uint64_t failures = 0;
  std::map<std::string, std::uint64_t> findings;  // by reason, of all passes of this process that marked
  std::optional<PassReport> last;                 // over all rows; without its runs
  std::optional<Timestamp> last_good_at;
  std::optional<std::map<Status, std::uint64_t>> runs_by_status;  // as that pass left them
  bool boot_done = false;                                         // the first boot pass has ended
  bool running = false;
  std::optional<PassProgress> under_way;  // once it has begun to look through the rows
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
  // Each rule's answer for one row now, as JSON. kNotFound.
  Result<JsonText> explain(Store& store, std::string_view run_id);

  ReconcilerStatus status() const;

  // For the watchdog: the reconciler's own thread, or a pass on request, does not get on.
  bool stuck() const { return own_pulse_.missed() || request_pulse_.missed(); }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Work { kStop, kNothing, kSecondBoot, kInterval, kEnded };
  struct SecondBoot {
    PassPlan plan;
    Clock::time_point due;
  };

  void run();
  Work wait_for_work();
  bool sleep_until(Clock::time_point until);  // false: stopping
  // Whether `wake` holds before that time. With lock: of mutex_. Shows liveness meanwhile.
  bool wait_until(std::unique_lock<std::mutex>& lock, Clock::time_point until, const std::function<bool()>& wake);
  bool boot();
  void plan_second_boot(Pass& pass, const PassReport& report);
  void second_boot();
  void interval_pass();
  void look_at_ended();
  Result<void> look_at_ended(std::vector<ProcessEnd>& ends);
  void look_again(std::vector<ProcessEnd> ends, Clock::duration after);
  bool wait_for_database();
  Result<PassReport> try_pass(Pass& pass, Liveness& liveness);
  // With lock: of mutex_.
  Result<void> wait_for_turn(std::unique_lock<std::mutex>& lock, const Liveness& liveness);
  Result<PassReport> take_turn(Pass& pass, const Liveness& liveness);
  PassHost host();
  Pass own_pass(PassPlan plan, PassConnections& connections);
  bool is_stopping() const;
  ReconcilePolicy policy() const;
  void note(const Result<PassReport>& outcome);

  const ReconcilerOptions options_;
  Recorder& recorder_;
  GoneSince gone_;
  const PassHost host_;
  std::thread thread_;
  // Of the reconciler's own thread.
  std::optional<SecondBoot> second_boot_;
  Clock::time_point last_interval_{};
  Clock::time_point last_ended_look_{};
  PassConnections ended_connections_;  // kept: there may be something to look at every second
  Liveness own_pulse_;
  Liveness request_pulse_;  // of the one pass that runs for a request
  RepeatGuard left_;
  RepeatGuard failing_;

  mutable std::mutex mutex_;
  std::condition_variable stop_;
  std::condition_variable turn_;  // a pass has ended
  // guarded by mutex_
  ReconcilePolicy policy_;
  ReconcilerStatus status_;
  EndedProcesses ended_;
  std::string unused_pass_id_;    // of a pass that failed before it marked anything: its row is used again
  bool ended_under_way_ = false;  // the pass that runs is one over processes that have ended
  bool stopping_ = false;
};

}  // namespace run_recorder
