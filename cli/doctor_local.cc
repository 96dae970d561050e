#include "cli/doctor_local.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/account.h"
#include "base/file.h"
#include "cli/program.h"
#include "cli/text.h"
#include "spool/file_system.h"
#include "spool/inspect.h"

namespace run_recorder {
std::vector<std::string> daemons_own_check(const std::vector<std::pair<std::string, std::string>>& config_flags) {
  const auto said = output_of({{daemon_program(), "--check"}, as_environment(config_flags)});
  if (!said) return {};
  return lines_of(said->text);
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

namespace {

// Whose the files should be: the spool's owner; where root made the spool in a folder of somebody else, that one.
std::optional<uid_t> daemons_user(const Config& config) {
  const std::filesystem::path spool = config.spool.path;
  const std::optional<uid_t> owner = owner_of_spool(spool);
  return owner && *owner == 0 ? owner_of_spool(std::filesystem::absolute(spool).parent_path()) : owner;
}

}  // namespace

void check_spool_folder(DoctorReport& report, const std::string& path, bool daemon_answers) {
  const auto inspected = inspect_spool(path, InspectionDepth::kHeaders);
  const ErrorKind why = inspected ? ErrorKind::kInternal : inspected.error().kind;
  // The daemon says itself how its spool is; in a container its folder is none of this host.
  if (daemon_answers && (why == ErrorKind::kDenied || why == ErrorKind::kNotFound)) {
    report.warning("spool", "not looked at: " + inspected.error().message,
                   "run this as root or as the daemon's user, where its folder is seen");
    return;
  }
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

void check_owners(DoctorReport& report, const Config& config) {
  const std::optional<uid_t> owner = daemons_user(config);
  // Neither spool nor folder, or not for this user to see: that is said of the spool.
  if (!owner || (::access(config.spool.path.c_str(), R_OK | X_OK) != 0 && errno == EACCES)) return;
  const std::vector<WrongFile> files = wrong_files(config, *owner);
  for (const WrongFile& file : files) {
    report.wrong("files", file.found,
                 file.advice + (file.keeps_from_starting ? "; the daemon does not start with it" : ""));
  }
  if (files.empty()) report.fine("files", fmt::format("all belong to {}", user_name(*owner)));
}

void check_disk(DoctorReport& report, const Config& config) {
  const std::filesystem::path folder = config.spool.path;
  if (const auto weak = weak_file_system(folder)) {
    report.warning("disk", weak->words(folder), "move [spool] path to a disk");
  }
  const Result<DiskSpace> disk = disk_space(folder);
  if (!disk) {
    report.wrong("disk", disk.error().message, "run this as root or as the daemon's user");
    return;
  }
  if (disk->read_only) {
    report.wrong("disk", disk->path.string() + " is on a file system that is mounted read-only",
                 "look at dmesg for why, and mount it writable");
    return;
  }
  const std::uint64_t free = disk->free_bytes;
  const std::string words = fmt::format("{} free under {}", size_in_words(free), disk->path.string());
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
