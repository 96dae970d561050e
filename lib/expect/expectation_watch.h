// Looks at the expectations of the configuration about once a second, and writes what is found of them: runs that did
// not start, runs that last too long, and when that is over (contract section 11). One of the daemons that expect the
// same writes, as a lease has it; all of them look. One thread of its own; every public function may be called from
// any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock_watch.h"
#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "expect/views.h"
#include "recorder/recorder.h"

namespace run_recorder {

struct ExpectationWatchOptions {
  ExpectPolicy policy;
  // How long after a time in which nothing was heard nothing is found: who could not be heard says it first.
  std::chrono::milliseconds grace{30'000};
  StoreOptions store;
  // Since when events are accepted without a break. From any thread.
  std::function<std::chrono::steady_clock::time_point()> accepting_since;
};

struct ExpectationStatus {
  std::vector<ExpectationView> views;           // at the last look, by name
  std::map<FindingKind, std::uint64_t> open;    // findings, likewise
  std::uint64_t learned_open = 0;               // of them those that no expectation says
  std::map<FindingKind, std::uint64_t> opened;  // by this process
  bool failing = false;                         // the latest look could not come to its end
};

class ExpectationWatch {
 public:
  // The recorder outlives it.
  ExpectationWatch(ExpectationWatchOptions options, Recorder& recorder);
  ~ExpectationWatch();
  ExpectationWatch(const ExpectationWatch&) = delete;
  ExpectationWatch& operator=(const ExpectationWatch&) = delete;

  void start();
  void stop();
  void reconfigure(const ExpectPolicy& policy, std::chrono::milliseconds grace);

  std::shared_ptr<const ExpectedRuns> expected() const;
  ExpectationStatus status() const;
  // For the watchdog: a look has made no progress for too long.
  bool stuck() const { return liveness_.missed(); }

 private:
  using Steady = std::chrono::steady_clock;

  void run();
  Result<void> look();
  Result<void> tidy(Store& store, const ExpectedRuns& expected);
  Result<bool> holds_lease(Store& store, const ExpectedRuns& expected);
  Result<void> judge(Store& store, const ExpectedRuns& expected);
  // What is found now; running rows as of `seen`.
  Result<FoundChanges> find(Store& store, const ExpectedRuns& expected, const ExpectationViews& seen);
  Result<std::vector<NewFinding>> find_overlong(Store& store, const ExpectedRuns& expected,
                                                const ExpectationViews& seen);
  // Of the open findings of runs those that are over.
  Result<std::vector<FindingEnd>> find_over(Store& store, const ExpectedRuns& expected, const ExpectationViews& seen,
                                            std::span<const NewFinding> overlong);
  Result<void> write(Store& store, const ExpectationViews& seen, const FoundChanges& changes);
  void log_opened(const NewFinding& finding);
  void log_ended(const ExpectationViews& seen, const FindingEnd& end);
  std::optional<std::chrono::milliseconds> learned(Store& store, std::string_view council);
  bool may_judge(Timestamp database_now);
  void show(ExpectationViews&& seen);
  bool pause(std::chrono::milliseconds time);  // false: stopping

  const ExpectationWatchOptions options_;
  Recorder& recorder_;
  std::thread thread_;
  Liveness liveness_;
  RepeatGuard failing_;
  RepeatGuard disputed_;
  RateLimiter lines_;

  // The thread's.
  std::unique_ptr<Store> store_;
  ClockWatch clock_watch_;
  Steady::time_point leased_until_{};
  Steady::time_point tidied_at_{};
  std::string tidied_for_;  // the fingerprint
  struct Learned {
    std::optional<std::chrono::milliseconds> limit;
    Steady::time_point at;
  };
  std::map<std::string, Learned, std::less<>> learned_;

  mutable Mutex mutex_;
  Condition wake_;
  std::shared_ptr<const ExpectedRuns> expected_ GUARDED_BY(mutex_);
  std::chrono::milliseconds grace_ GUARDED_BY(mutex_);
  ExpectationStatus status_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool reconfigured_ GUARDED_BY(mutex_) = false;
};

}  // namespace run_recorder
