// Tells when a process ends, so that a killed worker becomes a finding at once and not at the next pass: one pidfd a
// process (pidfd_open(2)) in one epoll, and a thread that sleeps until one of them becomes readable. No timers, no
// polling: an idle watch costs nothing but its descriptors.
//
// watch(), stop() and counts() are safe from any thread. The callback runs on the watch's own thread, must not throw
// and must not call stop().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "process/identity.h"

namespace run_recorder {

class ProcessWatch {
 public:
  using OnEnd = std::function<void(const ProcessIdentity&)>;

  // Holds at most `max` descriptors besides two of its own. Throws std::system_error where not even these are to be
  // had.
  ProcessWatch(std::size_t max, OnEnd on_end);
  ~ProcessWatch();
  ProcessWatch(const ProcessWatch&) = delete;
  ProcessWatch& operator=(const ProcessWatch&) = delete;

  // The callback follows once for this identity, at once where the process has ended already. An identity named again
  // after that is told again: what named it may be younger than the first call. Costs no system call while the
  // process is watched, and no more than waking the thread otherwise. Ignored: identities of other machines and PID
  // namespaces, empty ones, and any after stop().
  void watch(const ProcessIdentity& identity);
  // Ends the thread. No callback runs once it has returned.
  void stop();

  struct Counts {
    std::size_t max = 0;
    std::size_t watched = 0;      // now, those not yet opened included
    std::uint64_t ended = 0;      // callbacks
    std::uint64_t unwatched = 0;  // calls of watch() in vain: `max` reached, or no descriptor left
  };
  Counts counts() const;

 private:
  // A node of watched_: its address is what epoll gives back.
  using Watched = std::unordered_map<ProcessIdentity, UniqueFd>;

  void run();
  void open_pending();
  void open(Watched::value_type& entry);
  void end(const ProcessIdentity& identity);
  void give_up(const ProcessIdentity& identity, bool counts);

  const std::size_t max_;
  const OnEnd on_end_;
  const UniqueFd epoll_;
  const UniqueFd wake_;  // an eventfd: something is pending, or it is to stop

  mutable Mutex mutex_;
  Watched watched_ GUARDED_BY(mutex_);  // entries are erased, and their descriptors set, by the thread alone
  std::vector<Watched::value_type*> pending_ GUARDED_BY(mutex_);  // not opened yet
  Counts counts_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace run_recorder
