#include "process/translation.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <charconv>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
    const std::string_view name = entry->d_name;
    std::int32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc{} && end == name.data() + name.size() && visit(number)) return true;
  }
  return true;
}

// One question, "which process has this pid in that namespace?", and what was seen on the way to its answer.
class Search {
 public:
  Search(std::size_t level, NamespaceId wanted, std::int32_t worker_pid)
      : level_(level), wanted_(wanted), worker_pid_(worker_pid) {}

  // The processes from pid upwards that are in the namespace.
  std::optional<std::int32_t> among_ancestors(std::int32_t pid) {
    for (int steps = 0; pid > 0 && steps < kMaxAncestors; ++steps) {
      const Result<Status> status = read_status(fmt::format("/proc/{}", pid));
      if (!status || status->pids.size() <= level_) return std::nullopt;
      if (matches(pid, *status)) return pid;
      pid = status->parent;
    }
    return std::nullopt;
  }

  std::optional<std::int32_t> among_all() {
    std::optional<std::int32_t> found;
    const bool listed = each_number("/proc", [&](std::int32_t pid) {
      const Result<Status> status = read_status(fmt::format("/proc/{}", pid));
      if (!status && status.error().kind != ErrorKind::kNotFound) conclusive_ = false;
      if (!status || status->pids.size() <= level_) return false;
      nested_.push_back({pid, status->pids.size() - 1 - level_});
      if (matches(pid, *status)) found = pid;
      return found.has_value();
    });
    conclusive_ = conclusive_ && listed;
    return found;
  }

  // Nothing that could be the worker was hidden from among_all(), nor is it a thread that leads no process.
  bool is_conclusive() {
    if (!conclusive_ || host().proc_hides) return false;
    for (const Nested& process : nested_) {
      if (!has_such_thread(process.pid)) continue;
      const std::optional<NamespaceId> found = namespace_of(process.pid, process.levels_below);
      if (!found || *found == wanted_) return false;
    }
    return true;
  }

 private:
  static constexpr int kMaxAncestors = 64;
  // A process that lives at the wanted depth or below.
  struct Nested {
    std::int32_t pid;
    std::size_t levels_below;
  };

  bool matches(std::int32_t pid, const Status& status) {
    if (status.pids[level_] != worker_pid_) return false;
    const std::optional<NamespaceId> found = namespace_of(pid, status.pids.size() - 1 - level_);
    if (!found) conclusive_ = false;
    return found == wanted_;
  }

  bool has_such_thread(std::int32_t pid) {
    bool found = false;
    const std::string tasks = fmt::format("/proc/{}/task", pid);
    each_number(tasks, [&](std::int32_t tid) {
      const Result<Status> status = read_status(fmt::format("{}/{}", tasks, tid));
      found = status && status->pids.size() > level_ && status->pids[level_] == worker_pid_;
      return found;
    });
    return found;
  }

  const std::size_t level_;  // of the namespace below this process's own
  const NamespaceId wanted_;
  const std::int32_t worker_pid_;
  bool conclusive_ = true;
  std::vector<Nested> nested_;
};

}  // namespace

Translation translate(std::int32_t sender_pid, std::int32_t worker_pid, bool may_search) {
  if (sender_pid <= 0 || worker_pid <= 0 || !host().proc_is_ours) return {};
  const Result<Status> sender = read_status(fmt::format("/proc/{}", sender_pid));
  if (!sender) return {};
  if (sender->pids.size() == 1) return {Kind::kFound, worker_pid, host().pid_namespace};
  if (sender->pids.back() == worker_pid) return {Kind::kFound, sender_pid, host().pid_namespace};
  const std::optional<NamespaceId> wanted = namespace_of(sender_pid, 0);
  if (!wanted) return {};
  Search search(sender->pids.size() - 1, *wanted, worker_pid);
  std::optional<std::int32_t> pid = search.among_ancestors(sender->parent);
  if (!pid && !may_search) return {};
  if (!pid) pid = search.among_all();
  if (pid) return {Kind::kFound, *pid, host().pid_namespace};
  if (!search.is_conclusive()) return {};
  return {Kind::kAbsent, worker_pid, wanted->inode};
}

}  // namespace run_recorder::process
