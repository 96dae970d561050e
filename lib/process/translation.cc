#include "process/translation.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/number.h"
#include "process/host.h"

namespace run_recorder::process {
namespace {

using Kind = Translation::Kind;

struct NamespaceId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const NamespaceId&, const NamespaceId&) = default;
};

// The PID namespace of a process, or one so many levels above it. Empty where that cannot be seen.
std::optional<NamespaceId> namespace_of(std::int32_t pid, std::size_t levels_up) {
  Result<UniqueFd> file = open_file(fmt::format("/proc/{}/ns/pid", pid), O_RDONLY);
  if (!file) return std::nullopt;
  for (; levels_up > 0; --levels_up) {
    UniqueFd parent(ioctl(file->get(), NS_GET_PARENT));
    if (!parent) return std::nullopt;
    *file = std::move(parent);
  }
  struct stat status {};
  if (fstat(file->get(), &status) != 0) return std::nullopt;
  return NamespaceId{status.st_dev, status.st_ino};
}

// Calls visit with each number that a folder of /proc has as a name, until it returns true. False where the folder
// cannot be read.
bool each_number(const std::string& folder, const std::function<bool(std::int32_t)>& visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(folder.c_str()), closedir);
  if (!entries) return false;
  while (const dirent* const entry = readdir(entries.get())) {
    const auto number = parse_number<std::int32_t>(entry->d_name);
    if (number && visit(*number)) return true;
  }
  return true;
}

// The topmost of a process and its ancestors that is in the process's namespace at some level.
struct Root {
  std::int32_t pid = 0;
  bool is_init = false;  // process 1 of the namespace: every process with another one is in another namespace
};

// Climbs from a process to its root at that level (levels of namespaces below this process's own, from 1), calling
// visit(pid, status) for each on the way, until it returns true. Empty where something cannot be seen or ended
// meanwhile.
std::optional<Root> climb(std::int32_t pid, std::size_t level,
                          const std::function<bool(std::int32_t, const ProcStatus&)>& visit) {
  constexpr int kMostAncestors = 64;
  Result<ProcStatus> status = read_proc_status(fmt::format("/proc/{}", pid));
  for (int steps = 0; status && status->pids.size() > level && steps < kMostAncestors; ++steps) {
    const bool is_init = status->pids[level] == 1;
    if (visit(pid, *status) || is_init || status->parent == 0) return Root{pid, is_init};
    Result<ProcStatus> parent = read_proc_status(fmt::format("/proc/{}", status->parent));
    // Its parent may have ended, and its pid be another's, before it was read.
    const Result<ProcStatus> again = read_proc_status(fmt::format("/proc/{}", pid));
    if (!parent || !again || again->parent != status->parent || again->pids != status->pids) return std::nullopt;
    if (parent->pids.size() <= level) return Root{pid, false};
    pid = status->parent;
    status = std::move(parent);
  }
  return std::nullopt;
}

// One question, "which process has this pid in the sender's namespace?", and what was seen on the way to its answer.
class Search {
 public:
  Search(std::int32_t sender_pid, const ProcStatus& sender, std::int32_t worker_pid)
      : sender_pid_(sender_pid),
        level_(sender.pids.size() - 1),
        worker_pid_(worker_pid),
        wanted_(namespace_of(sender_pid, 0)) {}

  // The sender and those above it that are in its namespace.
  std::optional<std::int32_t> among_ancestors() {
    std::optional<std::int32_t> found;
    root_ = climb(sender_pid_, level_, [&](std::int32_t pid, const ProcStatus& status) {
      if (status.pids[level_] == worker_pid_) found = pid;
      return found.has_value();
    });
    return found;
  }

  std::optional<std::int32_t> among_all() {
    std::vector<std::int32_t> nested;
    conclusive_ = each_number("/proc", [&](std::int32_t pid) {
      const Result<ProcStatus> status = read_proc_status(fmt::format("/proc/{}", pid));
      if (!status && status.error().kind != ErrorKind::kNotFound) hidden_ = true;
      if (!status || status->pids.size() <= level_) return false;
      nested.push_back(pid);
      if (status->pids[level_] == 1) ++namespaces_;
      if (status->pids[level_] == worker_pid_) candidates_.push_back(pid);
      return false;
    });
    conclusive_ = conclusive_ && !hidden_ && !host().proc_hides;
    for (const std::int32_t pid : candidates_) {
      if (is_in_wanted(pid) == true) return pid;
    }
    for (const std::int32_t pid : nested) {
      if (has_such_thread(pid)) candidates_.push_back(pid);
    }
    return std::nullopt;
  }

  // Nothing that could be the worker was hidden from among_all(), nor is it a thread that leads no process.
  bool is_conclusive() const {
    if (!conclusive_) return false;
    for (const std::int32_t pid : candidates_) {
      if (is_in_wanted(pid) != false) return false;
    }
    return true;
  }

  std::uint64_t wanted_inode() const { return wanted_ ? wanted_->inode : 0; }

 private:
  // Whether the process is in the sender's namespace or below; empty where that cannot be told.
  std::optional<bool> is_in_wanted(std::int32_t pid) const {
    const Result<ProcStatus> status = read_proc_status(fmt::format("/proc/{}", pid));
    if (!status || status->pids.size() <= level_) return std::nullopt;
    if (wanted_) {
      const std::optional<NamespaceId> found = namespace_of(pid, status->pids.size() - 1 - level_);
      if (found) return found == wanted_;
    }
    const std::optional<Root> root = climb(pid, level_, [](std::int32_t, const ProcStatus&) { return false; });
    if (root && root_ && root->pid == root_->pid) return true;
    if (root && root_ && root->is_init && root_->is_init) return false;
    // As deep as the sender there is one namespace on this host, and all of its processes could be seen.
    if (conclusive_ && namespaces_ == 1) return true;
    return std::nullopt;
  }

  bool has_such_thread(std::int32_t pid) const {
    bool found = false;
    const std::string tasks = fmt::format("/proc/{}/task", pid);
    each_number(tasks, [&](std::int32_t tid) {
      const Result<ProcStatus> status =
          tid == pid ? Result<ProcStatus>(ProcStatus()) : read_proc_status(fmt::format("{}/{}", tasks, tid));
      found = status && status->pids.size() > level_ && status->pids[level_] == worker_pid_;
      return found;
    });
    return found;
  }

  const std::int32_t sender_pid_;
  const std::size_t level_;  // of the sender's namespace below this process's own
  const std::int32_t worker_pid_;
  const std::optional<NamespaceId> wanted_;  // where it may be read
  std::optional<Root> root_;                 // the sender's
  bool conclusive_ = false;                  // every process of the host was seen
  bool hidden_ = false;
  int namespaces_ = 0;                    // as deep as the sender's
  std::vector<std::int32_t> candidates_;  // have the worker's pid in some namespace as deep
};

}  // namespace

Translation translate(std::int32_t sender_pid, std::int32_t worker_pid, bool may_search) {
  if (sender_pid <= 0 || worker_pid <= 0 || !host().proc_is_ours) return {};
  const Result<ProcStatus> sender = read_proc_status(fmt::format("/proc/{}", sender_pid));
  if (!sender) return {};
  if (sender->pids.size() == 1) return {Kind::kFound, worker_pid, host().pid_namespace};
  if (sender->pids.back() == worker_pid) return {Kind::kFound, sender_pid, host().pid_namespace};
  Search search(sender_pid, *sender, worker_pid);
  std::optional<std::int32_t> pid = search.among_ancestors();
  if (!pid && !may_search) return {};
  if (!pid) pid = search.among_all();
  if (pid) return {Kind::kFound, *pid, host().pid_namespace};
  if (!search.is_conclusive()) return {};
  return {Kind::kAbsent, worker_pid, search.wanted_inode()};
}

}  // namespace run_recorder::process
