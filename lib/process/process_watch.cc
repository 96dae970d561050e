#include "process/process_watch.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/liveness.h"
#include "base/log.h"

namespace run_recorder {
namespace {

constexpr std::size_t kEventsAtOnce = 64;

UniqueFd checked(int fd, const char* call) {
  if (fd < 0) throw std::system_error(errno, std::generic_category(), call);
  return UniqueFd(fd);
}

bool add_to(const UniqueFd& epoll, int fd, void* data) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = data;
  return epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

ProcessWatch::ProcessWatch(std::size_t max, OnEnd on_end)
    : max_(max),
      on_end_(std::move(on_end)),
      epoll_(checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wake_(checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  counts_.max = max;
  if (!add_to(epoll_, wake_.get(), nullptr)) throw std::system_error(errno, std::generic_category(), "epoll_ctl");
  thread_ = std::thread([this] { run(); });
}

ProcessWatch::~ProcessWatch() {
  stop();
}

void ProcessWatch::watch(const ProcessIdentity& identity) {
  if (identity.empty()) return;
  {
    const MutexLock lock(mutex_);
    if (stopping_ || watched_.contains(identity)) return;
    if (watched_.size() >= max_) {
      if (counts_.unwatched++ == 0) {
        log_warning("too many processes to watch: the next pass finds the end of the others",
                    {{"WATCHED", watched_.size()}});
      }
      return;
    }
    pending_.push_back(&*watched_.emplace(identity, UniqueFd()).first);
    if (pending_.size() > 1) return;  // the thread is on its way
  }
  eventfd_write(wake_.get(), 1);
}

void ProcessWatch::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

ProcessWatch::Counts ProcessWatch::counts() const {
  const MutexLock lock(mutex_);
  Counts counts = counts_;
  counts.watched = watched_.size();
  return counts;
}

void ProcessWatch::run() {
  name_this_thread("process-watch");
  std::array<epoll_event, kEventsAtOnce> events;
  while (true) {
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const auto* const entry = static_cast<Watched::value_type*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (entry != nullptr) end(entry->first);
    }
    eventfd_t ignored = 0;
    eventfd_read(wake_.get(), &ignored);
    open_pending();
    const MutexLock lock(mutex_);
    if (stopping_) return;
  }
}

void ProcessWatch::open_pending() {
  std::vector<Watched::value_type*> pending;
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    pending.swap(pending_);
  }
  for (Watched::value_type* const entry : pending) open(*entry);
}

void ProcessWatch::open(Watched::value_type& entry) {
  process::Opened opened = process::open_process(entry.first);
  if (opened.evidence == ProcessEvidence::kGone) return end(entry.first);
  // Of one that /proc hides no start time is known. Once whoever has the pid has ended, ours has too.
  if (!opened.pidfd) return give_up(entry.first, opened.no_descriptor);
  const MutexLock lock(mutex_);
  entry.second = std::move(opened.pidfd);
  if (add_to(epoll_, entry.second.get(), &entry)) return;
  watched_.erase(watched_.find(entry.first));
  ++counts_.unwatched;
}

// Forgotten first: an event accepted from now on is told of again.
void ProcessWatch::end(const ProcessIdentity& identity) {
  Watched::node_type entry;
  {
    const MutexLock lock(mutex_);
    entry = watched_.extract(identity);
    assert(entry);
    ++counts_.ended;
  }
  on_end_(entry.key());
}

void ProcessWatch::give_up(const ProcessIdentity& identity, bool counts) {
  const MutexLock lock(mutex_);
  if (counts) ++counts_.unwatched;
  watched_.erase(watched_.find(identity));
}

}  // namespace run_recorder
