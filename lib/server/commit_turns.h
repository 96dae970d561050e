// Whose turn it is to commit what the sessions submit: the state that SpoolWriter and the sessions' thread share.
// Pure, with the clock as a parameter. Not synchronised: the writer guards it with its mutex. `waits`, here and
// below: there are submissions in the queue.
#pragma once

#include <chrono>
#include <cstddef>

namespace run_recorder {

class CommitTurns {
 public:
  using Clock = std::chrono::steady_clock;
  // How long the sessions may wait for a sync of their own thread before the writer's thread runs them.
  static constexpr std::chrono::milliseconds kDiskPatience{20};
  static constexpr std::chrono::seconds kIdleTurn{5};

  enum class State {
    kOpen,       // The sessions' thread may commit what waits. To kWriter by submitted(), to kSmall by begin_small().
    kWriter,     // What waits is the writer's thread's. To kOpen once that has taken all of it.
    kSmall,      // The sessions' thread commits a small group. To kOpen by end_small(), to kStandIn by stand_in().
    kStandIn,    // It still does, and the writer's thread runs the sessions. To kReturning by end_small().
    kReturning,  // That commit has ended, and the writer's thread is leaving the sessions. By returned() to kWriter,
                 // where they submitted something meanwhile, or to kOpen.
  };
  // What the writer's thread has to do.
  enum class Task { kWait, kStandIn, kCommit, kEnd };

  State state() const { return state_; }

  // The sessions' side.
  // large: more waits than a small commit carries.
  void submitted(bool large);
  // False: there is nothing to commit, or it is not theirs.
  bool begin_small(Clock::time_point now, bool waits);
  void end_small();
  bool writer_runs_sessions() const { return state_ == State::kStandIn || state_ == State::kReturning; }
  // A group of the writer's thread is settled.
  void group_settled();

  // The side of the writer's thread.
  Task task(Clock::time_point now, bool waits) const;
  // It must not sleep any longer. While small commits go on it looks often by itself, so that none has to wake it.
  bool calls_writer(Clock::time_point now, bool waits) const;
  void begin_wait() { small_committed_ = false; }
  void end_wait() { watching_ = state_ == State::kSmall || small_committed_; }
  Clock::duration longest_wait() const {
    return watching_ ? Clock::duration(kDiskPatience) : Clock::duration(kIdleTurn);
  }
  void stand_in();
  void returned(bool waits);
  void group_committed() { ++unsettled_; }

  // Either side has taken all that waited.
  void taken_all();
  // Nothing is submitted any more; what waits is still committed, then not even that.
  void drain() { ending_ = Ending::kDrain; }
  void abandon() { ending_ = Ending::kAbandon; }

 private:
  enum class Ending { kNo, kDrain, kAbandon };

  State state_ = State::kOpen;
  Ending ending_ = Ending::kNo;
  Clock::time_point small_since_{};  // of kSmall and kStandIn
  std::size_t unsettled_ = 0;        // groups of the writer's thread that the sessions do not know of yet
  bool watching_ = false;            // the writer's thread sleeps no longer than kDiskPatience
  bool small_committed_ = false;     // since begin_wait()
};

}  // namespace run_recorder
