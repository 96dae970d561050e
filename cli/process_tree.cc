#include "cli/process_tree.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include "base/ascii.h"
#include "base/number.h"
#include "process/host.h"

namespace run_recorder {
namespace {

// Processes may start others while one looks; something that does nothing else is not waited for.
constexpr int kMostLooks = 10;
// A descriptor each, of the 1,024 that a process has as a rule.
constexpr std::size_t kMostProcesses = 500;

struct Seen {
  pid_t pid = -1;
  process::Stat stat;
};

std::vector<Seen> all_processes() {
  std::vector<Seen> all;
  std::error_code problem;
  for (std::filesystem::directory_iterator entry("/proc", problem), end; !problem && entry != end;
       entry.increment(problem)) {
    const std::string name = entry->path().filename().string();
    if (!std::ranges::all_of(name, is_digit)) continue;
    const std::optional<pid_t> pid = parse_number<pid_t>(name);
    if (!pid) continue;
    if (const Result<process::Stat> stat = process::read_stat(*pid); stat && !stat->has_ended()) {
      all.push_back({*pid, *stat});
    }
  }
  return all;
}

// Of the very process that was seen; empty where it has ended meanwhile.
UniqueFd open_seen(const Seen& seen) {
  UniqueFd fd = process::open_pidfd(seen.pid).fd;
  if (!fd) return fd;
  const Result<process::Stat> now = process::read_stat(seen.pid);
  return now && now->start_ticks == seen.stat.start_ticks ? std::move(fd) : UniqueFd();
}

}  // namespace

bool ProcessTree::find(std::optional<pid_t> root) {
  if (!process::host().proc_is_ours) return false;
  const std::size_t before = found_.size();
  for (int look = 0; look < kMostLooks && find_once(root); ++look) {
  }
  return found_.size() > before;
}

bool ProcessTree::find_once(std::optional<pid_t> root) {
  std::set<pid_t> parents;
  if (root) parents.insert(*root);
  for (const Process& one : found_) {
    if (!process::has_ended(one.fd.get())) parents.insert(one.pid);
  }
  const std::vector<Seen> others = all_processes();
  const std::size_t before = found_.size();
  for (bool more = true; more;) {
    more = false;
    for (const Seen& seen : others) {
      if (!parents.contains(seen.stat.parent) || parents.contains(seen.pid)) continue;
      if (found_.size() >= kMostProcesses) return found_.size() > before;
      UniqueFd fd = open_seen(seen);
      if (!fd) continue;
      parents.insert(seen.pid);
      found_.push_back({seen.pid, std::move(fd)});
      more = true;
    }
  }
  return found_.size() > before;
}

void ProcessTree::send(int signal) const {
  for (const Process& one : found_) (void)::syscall(SYS_pidfd_send_signal, one.fd.get(), signal, nullptr, 0);
}

const ProcessTree::Process* ProcessTree::first_alive() const {
  const auto alive =
      std::ranges::find_if(found_, [](const Process& one) { return !process::has_ended(one.fd.get()); });
  return alive == found_.end() ? nullptr : &*alive;
}

pollfd ProcessTree::polled() const {
  const Process* const alive = first_alive();
  return {alive == nullptr ? -1 : alive->fd.get(), POLLIN, 0};
}

}  // namespace run_recorder
