// Group commit: appends to the spool what the sessions hand over, with one sync for all that wait, tells the
// recorder, and then the sessions. While it syncs, more gathers; that makes the next group larger, not slower.
//
// Two threads do it in turn, never at once. A large group is the writer's own thread's. A small one, while that
// thread has nothing to do, is committed by the sessions' thread itself, because waking another one and being woken
// by it would take as long as the sync. Where its disk then does not answer soon, the writer's thread stands in for
// it and runs the sessions until it does, so that they never wait for the disk.
//
// submit() and commit_small() belong to whoever runs the sessions.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>

#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "server/acceptance_watch.h"
#include "server/commit_turns.h"
#include "server/counters.h"
#include "server/types.h"
#include "spool/spool.h"

namespace run_recorder {

class SpoolWriter {
 public:
  struct Sessions {
    std::function<void(Submissions&&)> settle;  // on the thread that runs them
    // Both from any thread but from within what run_one() runs.
    std::function<void(std::function<void()>)> post;
    std::function<void()> run_one;  // waits for something to do, and does it
  };

  // The first three outlive it.
  SpoolWriter(Spool& spool, Counters& counters, AcceptanceWatch& acceptance, OnAccepted on_accepted,
              Sessions sessions, const ServerBounds& bounds);
  ~SpoolWriter();
  SpoolWriter(const SpoolWriter&) = delete;
  SpoolWriter& operator=(const SpoolWriter&) = delete;

  void start();
  void submit(std::unique_ptr<Submission> submission);
  // The sessions have nothing more to hand over for now: commits and settles what they have, where that is little and
  // the writer's thread at rest. Not from within what Sessions::run_one runs.
  void commit_small();
  // Appends what was submitted, as far as that can begin within the time, and ends the thread. Nothing may be
  // submitted any more.
  void stop(std::chrono::milliseconds within);

  // For the watchdog: an append has taken more than a minute, as a rule because the disk does not answer.
  bool stuck() const { return liveness_.missed() || small_liveness_.missed(); }

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  // Both give mutex_ back while they run the sessions, or append.
  void stand_in() REQUIRES(mutex_);
  void commit_group() REQUIRES(mutex_);
  Submissions take_group() REQUIRES(mutex_);
  void commit(Submissions& group);
  void settle(Submissions& group, const Spool::Appended& appended);
  void refuse_all(Submissions& group, const Error& error);
  std::string no_room();

  Spool& spool_;
  Counters& counters_;
  AcceptanceWatch& acceptance_;
  const OnAccepted on_accepted_;
  const Sessions sessions_;
  const ServerBounds bounds_;
  std::thread thread_;
  Liveness liveness_;
  Liveness small_liveness_;

  mutable Mutex mutex_;
  Condition changed_;
  Condition emptied_;
  Submissions queue_ GUARDED_BY(mutex_);
  std::size_t queued_bytes_ GUARDED_BY(mutex_) = 0;
  CommitTurns turns_ GUARDED_BY(mutex_);

  // Of whoever commits.
  RepeatGuard failed_;
};

}  // namespace run_recorder
