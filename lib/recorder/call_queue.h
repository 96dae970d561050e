// Calls that any thread wants done on one certain thread, which takes them between its own work.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace run_recorder {

class CallQueue {
 public:
  using Call = std::function<void()>;
  // wake: called after a call was queued, on the caller's thread and without a lock.
  explicit CallQueue(std::function<void()> wake) : wake_(std::move(wake)) {}

  // From any other thread: waits for the answer. `late` where nobody took the call within patience; what has begun by
  // then is waited for, so that what was answered as not done is never done later.
  template <class T>
  Result<T> run(std::function<Result<T>()> work, std::chrono::milliseconds patience, const Error& late);
  bool empty() const;

  // The thread's: takes all that are queued, to be run in order.
  std::vector<Call> take();
  // The same, and no call is queued any more: each is answered by kUnavailable.
  std::vector<Call> close();

 private:
  bool add(Call call);

  const std::function<void()> wake_;
  mutable Mutex mutex_;
  std::vector<Call> calls_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

template <class T>
Result<T> CallQueue::run(std::function<Result<T>()> work, std::chrono::milliseconds patience, const Error& late) {
  struct State {
    std::promise<Result<T>> answer;
    std::atomic<bool> taken = false;  // by the thread, or given up by the caller
  };
  const auto state = std::make_shared<State>();
  auto future = state->answer.get_future();
  const bool queued = add([state, work = std::move(work)] {
    if (!state->taken.exchange(true)) state->answer.set_value(work());
  });
  if (!queued) return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
  wake_();
  if (future.wait_for(patience) != std::future_status::ready && !state->taken.exchange(true)) return late;
  return future.get();
}

inline bool CallQueue::add(Call call) {
  const MutexLock lock(mutex_);
  if (!closed_) calls_.push_back(std::move(call));
  return !closed_;
}

inline bool CallQueue::empty() const {
  const MutexLock lock(mutex_);
  return calls_.empty();
}

inline std::vector<CallQueue::Call> CallQueue::take() {
  const MutexLock lock(mutex_);
  return std::exchange(calls_, {});
}

inline std::vector<CallQueue::Call> CallQueue::close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  return std::exchange(calls_, {});
}

}  // namespace run_recorder
