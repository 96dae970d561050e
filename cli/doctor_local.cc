#include "cli/doctor_local.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "cli/child.h"
#include "cli/text.h"
#include "spool/file_system.h"
#include "spool/inspect.h"

namespace run_recorder {
namespace {

std::string daemon_program() {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  if (!problem) {
    const auto beside = self.parent_path() / "run-recorderd";
    if (::access(beside.c_str(), X_OK) == 0) return beside.string();
  }
  return "run-recorderd";
}

// Our own environment with the flags' settings in it: as flags, their passwords would be seen in the process list.
std::vector<std::string> environment_for_check(const std::vector<std::pair<std::string, std::string>>& config_flags) {
  Environment all = environment_of(environ);
  for (const auto& [flag, value] : config_flags) {
    std::string name = "RUN_RECORDER" + flag.substr(1);  // --database-url: RUN_RECORDER_DATABASE_URL
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    all[name] = value;
  }
  std::vector<std::string> lines;
  lines.reserve(all.size());
  for (const auto& [name, value] : all) lines.push_back(fmt::format("{}={}", name, value));
  return lines;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

std::vector<std::string> daemons_own_check(const std::vector<std::pair<std::string, std::string>>& config_flags) {
  std::vector<std::string> arguments = {daemon_program(), "--check"};
  std::vector<std::string> environment = environment_for_check(config_flags);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  const std::vector<char*> argv = pointers_to(arguments);
  const std::vector<char*> envp = pointers_to(environment);
  const pid_t child = ::fork();
  if (child < 0) return {};
  if (child == 0) {
    ::dup2(input.get(), STDOUT_FILENO);
    ::dup2(input.get(), STDERR_FILENO);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(kExitNotFound);
  }
  input.reset();
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(output.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

void take_check(DoctorReport& report, const std::vector<std::string>& said, const std::string& what,
                const std::string& advice) {
  const auto line = std::ranges::find_if(said, [&](const std::string& one) { return one.starts_with(what + " "); });
  if (line == said.end()) return;
  constexpr std::string_view kFine = "fine: ";
  const std::string words = line->substr(std::min(line->find_first_not_of(' ', what.size()), line->size()));
  if (words.starts_with(kFine)) {
    report.fine(what, words.substr(kFine.size()));
  } else if (words == "none is configured") {
    report.fine(what, words);
  } else {
    report.wrong(what, words, advice);
  }
}

void take_queues(DoctorReport& report, const std::vector<std::string>& said, const Config& config) {
  const auto queues = config.configured_queues();
  if (queues.empty()) take_check(report, said, "queue", {});
  for (const auto& [name, queue] : queues) {
    const bool default_one = !config.queues.contains(name);
    take_check(report, said, queue_check_name(config, name),
               fmt::format("without it rows with a job of it stay unknown; repair what it says, or correct [{}]",
                           default_one ? "reconcile.queue" : "queues." + name));
  }
}

void check_spool_folder(DoctorReport& report, const std::string& path) {
  const auto inspected = inspect_spool(path, InspectionDepth::kHeaders);
  if (!inspected && inspected.error().kind == ErrorKind::kNotFound) {
    report.wrong("spool", inspected.error().message,
                 "the daemon's first start makes it; where it ran before, [spool] path names another folder");
    return;
  }
  if (!inspected) {
    report.wrong("spool", inspected.error().message,
                 inspected.error().kind == ErrorKind::kDenied ? "run this as root or as the daemon's user"
                                                              : "look at what lies there; keep a copy");
    return;
  }
  if (!inspected->is_sound()) {
    std::string problems;
    const auto add = [&problems](const std::vector<std::string>& more) {
      for (const std::string& problem : more) problems += (problems.empty() ? "" : "; ") + problem;
    };
    add(inspected->problems);
    for (const SegmentReport& segment : inspected->segments) add(segment.problems);
    report.wrong("spool", problems.empty() ? path + " is damaged" : problems,
                 "run-recorder spool verify reads every record; check disk and memory");
    return;
  }
  report.fine("spool",
              fmt::format("{}, {} in {}, {}", path, count_of(inspected->records, "event"),
                          count_of(inspected->segments.size(), "segment"), size_in_words(inspected->file_bytes)));
}

void check_disk(DoctorReport& report, const Config& config) {
  std::filesystem::path path = config.spool.path;
  if (const auto weak = weak_file_system(path))
    report.warning("disk", weak->words(path), "move [spool] path to a disk");
  std::error_code ignored;
  while (!std::filesystem::exists(path, ignored) && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  struct statvfs disk {};
  if (::statvfs(path.c_str(), &disk) != 0) {
    report.wrong("disk", system_error_of(path.string()).message, "run this as root or as the daemon's user");
    return;
  }
  if ((disk.f_flag & ST_RDONLY) != 0) {
    report.wrong("disk", path.string() + " is on a file system that is mounted read-only",
                 "look at dmesg for why, and mount it writable");
    return;
  }
  const std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  const std::string words = fmt::format("{} free under {}", size_in_words(free), path.string());
  if (free <= config.spool.min_free) {
    report.wrong("disk", fmt::format("{}, and [spool] min_free is {}", words, size_in_words(config.spool.min_free)),
                 "events are refused: free the disk, or lower min_free");
  } else if (free - config.spool.min_free < config.spool.max_bytes / 10) {
    report.wrong("disk", words + ": less than a tenth of [spool] max_bytes above min_free",
                 "free the disk before the database is away for long");
  } else {
    report.fine("disk", words);
  }
}

}  // namespace run_recorder
