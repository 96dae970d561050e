#include "server/commit_turns.h"

#include <cassert>

namespace run_recorder {

void CommitTurns::submitted(bool large) {
  switch (state_) {
    case State::kOpen:
      // Behind a group that is not settled too, so that the sessions hear of each in its order.
      if (large || unsettled_ > 0) state_ = State::kWriter;
      return;
    case State::kSmall:
      assert(false);  // the sessions' thread commits, and nobody runs the sessions
      return;
    case State::kWriter:
    case State::kStandIn:
    case State::kReturning:
      return;
  }
}

bool CommitTurns::begin_small(Clock::time_point now, bool waits) {
  if (!waits || state_ != State::kOpen || ending_ != Ending::kNo) return false;
  state_ = State::kSmall;
  small_since_ = now;
  small_committed_ = true;
  return true;
}

void CommitTurns::end_small() {
  assert(state_ == State::kSmall || state_ == State::kStandIn);
  state_ = state_ == State::kStandIn ? State::kReturning : State::kOpen;
}

void CommitTurns::group_settled() {
  assert(unsettled_ > 0);
  --unsettled_;
}

CommitTurns::Task CommitTurns::task(Clock::time_point now, bool waits) const {
  switch (state_) {
    case State::kOpen:
    case State::kWriter:
      if (ending_ == Ending::kNo) return state_ == State::kWriter && waits ? Task::kCommit : Task::kWait;
      return waits && ending_ == Ending::kDrain ? Task::kCommit : Task::kEnd;
    case State::kSmall:
      return now - small_since_ >= kDiskPatience ? Task::kStandIn : Task::kWait;
    case State::kStandIn:
    case State::kReturning:
      break;
  }
  return Task::kWait;
}

bool CommitTurns::calls_writer(Clock::time_point now, bool waits) const {
  if (state_ == State::kSmall) return !watching_;
  return task(now, waits) != Task::kWait;
}

void CommitTurns::stand_in() {
  assert(state_ == State::kSmall);
  state_ = State::kStandIn;
}

void CommitTurns::returned(bool waits) {
  assert(state_ == State::kReturning);
  state_ = waits ? State::kWriter : State::kOpen;
}

void CommitTurns::taken_all() {
  if (state_ == State::kWriter) state_ = State::kOpen;
}

}  // namespace run_recorder
