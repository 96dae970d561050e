#include "process/identity.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "base/number.h"
#include "process/host.h"
#include "process/translation.h"

namespace run_recorder {
namespace {

using process::host;
using process::kUnknown;

constexpr std::string_view kAbsent = "absent";

struct Parts {
  std::string_view machine;
  std::string_view boot;
  std::uint64_t pid_namespace = 0;
  std::int32_t pid = 0;
  std::optional<std::uint64_t> start_ticks;  // empty: absent
};

std::optional<Parts> parse(std::string_view identity) {
  std::array<std::string_view, 5> fields;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::size_t end = i + 1 < fields.size() ? identity.find(':') : identity.size();
    if (end == std::string_view::npos) return std::nullopt;
    fields[i] = identity.substr(0, end);
    identity.remove_prefix(std::min(end + 1, identity.size()));
  }
  const auto pid_namespace = parse_number<std::uint64_t>(fields[2]);
  const auto pid = parse_number<std::int32_t>(fields[3]);
  const auto start_ticks = parse_number<std::uint64_t>(fields[4]);
  if (!pid_namespace || !pid || (!start_ticks && fields[4] != kAbsent)) return std::nullopt;
  return Parts{fields[0], fields[1], *pid_namespace, *pid, start_ticks};
}

ProcessIdentity make_identity(std::uint64_t pid_namespace, std::int32_t pid, std::string_view start) {
  return fmt::format("{}:{}:{}:{}:{}", host().machine, host().boot, pid_namespace, pid, start);
}

ProcessIdentity absent(std::uint64_t pid_namespace, std::int32_t pid) {
  return make_identity(pid_namespace, pid, kAbsent);
}

enum class Origin { kHere, kEarlierBoot, kElsewhere };

// An unknown machine can only be recognised by its boot.
Origin origin_of(const Parts& parts) {
  const bool same_boot = parts.boot == host().boot && parts.boot != kUnknown;
  if (parts.machine == kUnknown || host().machine == kUnknown) return same_boot ? Origin::kHere : Origin::kElsewhere;
  if (parts.machine != host().machine || parts.boot == kUnknown || host().boot == kUnknown) return Origin::kElsewhere;
  return same_boot ? Origin::kHere : Origin::kEarlierBoot;
}

std::uint64_t initial_ticks(std::uint64_t shown_ticks) {
  return process::initial_start_ticks(shown_ticks, host().boottime_offset, process::tick());
}

// Whether the process started then. Two daemons can differ by a tick: where a time namespace's offset is no whole
// number of ticks, the kernel rounds the sum. A pid is not used again within a tick. Up to 0.1.0 the time was stored
// as shown.
bool is_start_of(const process::Stat& stat, std::uint64_t start_ticks) {
  const std::uint64_t initial = initial_ticks(stat.start_ticks);
  const bool is_near = start_ticks <= initial + 1 && initial <= start_ticks + 1;
  return is_near || start_ticks == stat.start_ticks;
}

// The process that has this pid now, against the one that started at start_ticks.
ProcessEvidence compare(std::int32_t pid, std::uint64_t start_ticks, const process::PidfdResult& pidfd) {
  if (pidfd.error_number == ESRCH) return ProcessEvidence::kGone;
  const Result<process::Stat> stat = process::read_stat(pid);
  if (!stat) {
    // Hidden, or it ended since. Whichever process had the pid a moment ago, once it has ended ours has too.
    return pidfd.fd && process::has_ended(pidfd.fd.get()) ? ProcessEvidence::kGone : ProcessEvidence::kNone;
  }
  if (!is_start_of(*stat, start_ticks)) return ProcessEvidence::kGone;
  // The first thread may end before the others: then it looks like a zombie, but the process goes on.
  if (stat->has_ended() && pidfd.fd && !process::has_ended(pidfd.fd.get())) return ProcessEvidence::kAlive;
  return stat->has_ended() ? ProcessEvidence::kGone : ProcessEvidence::kAlive;
}

}  // namespace

Sender identify_sender(std::int32_t pid, const process::PidfdResult& pidfd) {
  Sender sender;
  sender.pid = pid;
  if (pid <= 0 || !host().proc_is_ours) return sender;
  const Result<process::Stat> stat = process::read_stat(pid);
  const Result<process::ProcStatus> status = process::read_proc_status(fmt::format("/proc/{}", pid));
  // What was read may be of a later process with the same pid, unless ours still has it.
  if (pidfd.error_number == ESRCH || (pidfd.fd && process::is_reaped(pidfd.fd.get()))) {
    sender.identity = absent(host().pid_namespace, pid);
  } else if (pidfd.fd && stat && status) {
    sender.identity = make_identity(host().pid_namespace, pid, std::to_string(initial_ticks(stat->start_ticks)));
    sender.own_pid = status->pids.back();
    sender.is_in_our_namespace = status->pids.size() == 1;
  }
  return sender;
}

ProcessIdentity identify(std::int32_t pid) {
  if (pid <= 0 || !host().proc_is_ours) return {};
  const process::PidfdResult pidfd = process::open_pidfd(pid);
  if (pidfd.error_number == ESRCH) return absent(host().pid_namespace, pid);
  if (!pidfd.fd) return {};  // a thread that leads no process, no descriptor left, or not permitted
  const Result<process::Stat> stat = process::read_stat(pid);
  // What was read may be of a later process with the same pid, unless ours still has it.
  if (process::is_reaped(pidfd.fd.get())) return absent(host().pid_namespace, pid);
  if (!stat) return {};
  return make_identity(host().pid_namespace, pid, std::to_string(initial_ticks(stat->start_ticks)));
}

ProcessIdentity process::identify(const Translation& translation) {
  switch (translation.kind) {
    case Translation::Kind::kFound:
      return run_recorder::identify(translation.pid);
    case Translation::Kind::kAbsent:
      return absent(translation.pid_namespace, translation.pid);
    case Translation::Kind::kNothing:
      break;
  }
  return {};
}

ProcessIdentity identify_in_namespace_of(std::int32_t sender_pid, std::int32_t worker_pid) {
  return process::identify(process::translate(sender_pid, worker_pid));
}

process::Opened process::open_process(std::string_view identity) {
  const std::optional<Parts> parts = parse(identity);
  if (!parts || parts->pid <= 0) return {};
  switch (origin_of(*parts)) {
    case Origin::kElsewhere:
      return {};
    case Origin::kEarlierBoot:
      return {ProcessEvidence::kGone, UniqueFd(), false};
    case Origin::kHere:
      break;
  }
  if (!parts->start_ticks) return {ProcessEvidence::kGone, UniqueFd(), false};
  if (parts->pid_namespace != host().pid_namespace || !host().proc_is_ours) return {};
  PidfdResult pidfd = open_pidfd(parts->pid);
  const ProcessEvidence evidence = compare(parts->pid, *parts->start_ticks, pidfd);
  const bool no_descriptor = pidfd.error_number == EMFILE || pidfd.error_number == ENFILE;
  return {evidence, std::move(pidfd.fd), no_descriptor};
}

ProcessEvidence check_process(std::string_view identity) {
  return process::open_process(identity).evidence;
}

std::string describe(std::string_view identity, ProcessEvidence evidence) {
  const std::optional<Parts> parts = parse(identity);
  if (!parts) return "no process is named";
  const Origin origin = origin_of(*parts);
  switch (evidence) {
    case ProcessEvidence::kAlive:
      return fmt::format("process {} is alive", parts->pid);
    case ProcessEvidence::kGone:
      if (origin == Origin::kEarlierBoot) return fmt::format("process {} is from an earlier boot", parts->pid);
      if (!parts->start_ticks) return fmt::format("process {} did not exist when its event was received", parts->pid);
      return fmt::format("process {} has ended", parts->pid);
    case ProcessEvidence::kNone:
      break;
  }
  if (origin == Origin::kElsewhere) return fmt::format("process {} is on another machine", parts->pid);
  if (parts->pid_namespace != host().pid_namespace) {
    return fmt::format("process {} is in another PID namespace", parts->pid);
  }
  return fmt::format("process {} is not visible", parts->pid);
}

}  // namespace run_recorder
