// A mutex whose rules the compiler checks: `./dev lint` runs clang's -Wthread-safety over the tree. Members that it
// guards say GUARDED_BY(mutex_); private functions whose callers hold it say REQUIRES(mutex_). The annotations are
// macros because g++ has no word for them (clang.llvm.org/docs/ThreadSafetyAnalysis.html); there they are nothing.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define RR_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define RR_THREAD_ANNOTATION(x)
#endif
#define CAPABILITY(name) RR_THREAD_ANNOTATION(capability(name))
#define SCOPED_CAPABILITY RR_THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(mutex) RR_THREAD_ANNOTATION(guarded_by(mutex))
#define REQUIRES(...) RR_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) RR_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) RR_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) RR_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...) RR_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(mutex) RR_THREAD_ANNOTATION(assert_capability(mutex))

namespace run_recorder {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE() { mutex_.lock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  // For a lambda that is called with the mutex held, as the condition of a wait is: tells the compiler so.
  void assert_held() const ASSERT_CAPABILITY(this) {}

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Holds a mutex until its scope ends; unlock() and lock() for what must not be done under it.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : lock_(mutex.mutex_) {}
  // Takes over what try_lock() got.
  MutexLock(Mutex& mutex, std::adopt_lock_t) REQUIRES(mutex) : lock_(mutex.mutex_, std::adopt_lock) {}
  ~MutexLock() RELEASE() {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() ACQUIRE() { lock_.lock(); }
  void unlock() RELEASE() { lock_.unlock(); }

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// What std::condition_variable is, for a MutexLock. A condition is a loop around wait(), or a lambda that begins
// with mutex.assert_held().
class Condition {
 public:
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

  void wait(MutexLock& lock) { condition_.wait(lock.lock_); }
  template <class Predicate>
  void wait(MutexLock& lock, Predicate holds) {
    condition_.wait(lock.lock_, holds);
  }
  template <class Clock, class Duration>
  std::cv_status wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> when) {
    return condition_.wait_until(lock.lock_, when);
  }
  template <class Clock, class Duration, class Predicate>
  bool wait_until(MutexLock& lock, std::chrono::time_point<Clock, Duration> when, Predicate holds) {
    return condition_.wait_until(lock.lock_, when, holds);
  }
  template <class Rep, class Period, class Predicate>
  bool wait_for(MutexLock& lock, std::chrono::duration<Rep, Period> time, Predicate holds) {
    return condition_.wait_for(lock.lock_, time, holds);
  }

 private:
  std::condition_variable condition_;
};

}  // namespace run_recorder
