// Compares the rows that say running with what is really alive, marks the orphaned ones stuck, and reports why (SPEC
// section 6). One thread of its own for the boot and interval passes; reconcile() and explain() run on their caller's
// thread. All public functions are safe together; one pass at a time in this process, and by a lease across daemons.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/pulse.h"
#include "queue/queue.h"
#include "recorder/evidence.h"
#include "recorder/pass_report.h"
#include "recorder/recorder.h"

namespace run_recorder {

// What a reload may change.
struct ReconcilePolicy {
  std::chrono::milliseconds grace{30'000};
  std::chrono::milliseconds interval{300'000};  // 0: at boot only
  std::chrono::milliseconds silent_after{86'400'000};
  std::chrono::milliseconds recorder_timeout{600'000};
  std::uint64_t max_stuck = 0;  // 0: no breaker
  std::uint64_t log_rows = 1'000;
};

struct ReconcilerOptions {
  ReconcilePolicy policy;
  StoreOptions store;
  std::function<std::unique_ptr<JobQueue>()> make_queue;  // empty: none is configured
  std::function<bool(std::string_view)> connection_open;
};

struct PassRequest {
  bool dry_run = false;
  bool unvouched = false;
  bool force = false;
};

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
  std::optional<PassReport> last;                 // without its runs
  std::optional<Timestamp> last_good_at;
  std::optional<std::map<Status, std::uint64_t>> runs_by_status;  // as the last pass left them
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

  // A pass on request, done when it returns. kConflict: another runs; kUnavailable: the database is away, or what was
  // received could not be applied within 10 s.
  Result<PassReport> reconcile(const PassRequest& request);
  // Each rule's answer for one row now, as JSON. kNotFound.
  Result<JsonText> explain(Store& store, std::string_view run_id);

  ReconcilerStatus status() const;

  // For the watchdog: the reconciler's own thread, or a pass on request, does not get on.
  bool stuck() const { return own_pulse_.missed() || request_pulse_.missed(); }

 private:
  struct Plan {
    std::string trigger;
    PassRequest request;
    bool vouching_required = false;
    // The second boot pass: only rows that the first one deferred.
    std::optional<Timestamp> not_before;
    std::optional<Timestamp> before;
    std::vector<std::string> also;
  };
  struct SecondBoot {
    Plan plan;
    std::chrono::steady_clock::time_point due;
  };
  struct Pass;  // one pass under way
  struct Page;

  void run();
  bool sleep_until(std::chrono::steady_clock::time_point until);  // false: stopping
  // Whether `wake` holds before that time. With lock: of mutex_. Beats meanwhile.
  bool wait_until(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point until,
                  const std::function<bool()>& wake);
  bool boot();
  void second_boot();
  bool wait_for_database();
  Result<PassReport> try_pass(const Plan& plan, Pass& pass);
  Result<PassReport> run_pass(const Plan& plan, Pass& pass);
  void end_turn(Pass& pass);
  Result<void> look_through(const Plan& plan, Pass& pass, bool mark);
  Result<Page> read_page(const Plan& plan, Pass& pass, std::string after, Timestamp before);
  Result<void> judge_page(const Plan& plan, Pass& pass, const Page& page, bool mark);
  Result<void> mark_page(Pass& pass, const Page& page, std::span<const Verdict> verdicts);
  Result<void> mark(Pass& pass, std::span<const StuckMark> marks, std::set<std::string>& marked);
  void log_row(Pass& pass, const RunningRow& row, const Verdict& verdict);
  void log_summary(const Pass& pass);
  Result<void> save(Pass& pass);
  EvidenceOptions evidence_options(Store& store) const;
  ReconcilePolicy policy() const;
  void note(const Result<PassReport>& outcome);

  const ReconcilerOptions options_;
  Recorder& recorder_;
  std::thread thread_;
  std::optional<SecondBoot> second_boot_;  // of the reconciler's own thread
  Pulse own_pulse_;
  Pulse request_pulse_;  // of the one pass that runs for a request
  RepeatGuard left_;
  RepeatGuard failing_;

  mutable std::mutex mutex_;
  std::condition_variable stop_;
  // guarded by mutex_
  ReconcilePolicy policy_;
  ReconcilerStatus status_;
  bool stopping_ = false;
};

}  // namespace run_recorder
