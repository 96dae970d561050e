// IdentityCache: what a worker's pid means, asked for with every event, and nearly always the same.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "process/host.h"
#include "process/identity.h"
#include "process/translation.h"

namespace run_recorder {
namespace {

using Clock = std::chrono::steady_clock;
// Looking through all of /proc takes milliseconds where there are many processes. Whoever asks for pids that do not
// exist, from within a PID namespace, gets no more than this share of the thread's time for it.
constexpr int kSearchShare = 10;

struct Entry {
  ProcessIdentity sender_identity;
  std::int32_t worker_pid = 0;
  ProcessIdentity identity;
  UniqueFd sender;  // of another namespace; as long as neither has ended, both pids mean what they meant
  UniqueFd worker;
  std::uint64_t used = 0;
};

bool is_valid(const Entry& entry) {
  std::array<pollfd, 2> fds{pollfd{entry.sender.get(), POLLIN, 0}, pollfd{entry.worker.get(), POLLIN, 0}};
  return poll(fds.data(), fds.size(), 0) == 0;
}

}  // namespace

struct IdentityCache::Impl {
  std::size_t max_entries;
  std::vector<Entry> entries = {};
  std::uint64_t uses = 0;
  Clock::time_point next_search = {};

  Entry* find(const Sender& sender, std::int32_t worker_pid) {
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) {
      return entry.worker_pid == worker_pid && entry.sender_identity == sender.identity;
    });
    if (found == entries.end()) return nullptr;
    if (is_valid(*found)) return &*found;
    entries.erase(found);
    return nullptr;
  }

  process::Translation translate(std::int32_t sender_pid, std::int32_t worker_pid) {
    const Clock::time_point begin = Clock::now();
    const bool may_search = begin >= next_search;
    const process::Translation translation = process::translate(sender_pid, worker_pid, may_search);
    const Clock::time_point end = Clock::now();
    if (may_search && translation.kind != process::Translation::Kind::kFound) {
      next_search = end + kSearchShare * (end - begin);
    }
    return translation;
  }

  // Only what stays true as long as both processes live: an absent worker may come to be later.
  void keep(Entry entry, std::int32_t pid) {
    entry.worker = process::open_pidfd(pid).fd;
    if (!entry.worker || !is_valid(entry) || identify(pid) != entry.identity) return;
    entry.used = ++uses;
    const auto older = [](const Entry& a, const Entry& b) { return a.used < b.used; };
    if (entries.size() >= max_entries) entries.erase(std::min_element(entries.begin(), entries.end(), older));
    entries.push_back(std::move(entry));
  }
};

IdentityCache::IdentityCache(std::size_t entries)
    : impl_(std::make_unique<Impl>(Impl{std::max<std::size_t>(entries, 1)})) {}
IdentityCache::~IdentityCache() = default;

ProcessIdentity IdentityCache::identify_in_namespace_of(const Sender& sender, std::int32_t worker_pid) {
  if (worker_pid <= 0 || sender.identity.empty()) return {};
  if (worker_pid == sender.own_pid) return sender.identity;
  if (Entry* const found = impl_->find(sender, worker_pid)) {
    found->used = ++impl_->uses;
    return found->identity;
  }
  Entry entry;
  entry.sender_identity = sender.identity;
  entry.worker_pid = worker_pid;
  process::Translation translation{process::Translation::Kind::kFound, worker_pid, process::host().pid_namespace};
  if (!sender.is_in_our_namespace) {
    entry.sender = process::open_pidfd(sender.pid).fd;
    translation = impl_->translate(sender.pid, worker_pid);
    if (!entry.sender || identify(sender.pid) != sender.identity) return {};  // the pid may be another's
  }
  entry.identity = process::identify(translation);
  ProcessIdentity identity = entry.identity;
  if (translation.kind == process::Translation::Kind::kFound) impl_->keep(std::move(entry), translation.pid);
  return identity;
}

}  // namespace run_recorder
