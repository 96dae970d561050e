// What tells this machine, this boot and this PID namespace from others, and what /proc says of one process.
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace run_recorder::process {

inline constexpr std::string_view kUnknown = "unknown";

struct Host {
  std::string machine;              // 16 hex digits, or kUnknown
  std::string boot;                 // 16 hex digits, or kUnknown
  std::uint64_t pid_namespace = 0;  // inode number
  bool proc_is_ours = false;        // /proc shows this process's own PID namespace
  bool proc_hides = false;          // mounted with hidepid=: a process that is not there may exist
  // How far this process's time namespace is ahead of the initial one since boot (time_namespaces(7)).
  std::chrono::nanoseconds boottime_offset{0};
};
// Read once, at the first call.
const Host& host();

// The first 16 hex digits of an id as these files hold it, with hyphens or without; kUnknown where it has fewer.
std::string short_id(std::string_view text);
// From /proc/self/timens_offsets; zero where it names none.
std::chrono::nanoseconds parse_boottime_offset(std::string_view timens_offsets);
// The options of the topmost mount on /proc in mountinfo(5)'s text hide processes.
bool hides_processes(std::string_view mountinfo);

// From /proc/PID/stat.
struct Stat {
  char state = '?';
  std::int32_t parent = 0;
  std::uint64_t start_ticks = 0;  // since boot, as this process's time namespace counts

  bool has_ended() const { return state == 'Z' || state == 'X' || state == 'x'; }
};
std::optional<Stat> parse_stat(std::string_view text);
// The unit of start times: a clock tick of sysconf(3), as a rule 10 ms.
std::chrono::nanoseconds tick();
// A start time that /proc showed to a process whose time namespace is ahead by `offset`, as the initial time
// namespace shows it: exact where the offset is a whole number of ticks, else to a tick.
std::uint64_t initial_start_ticks(std::uint64_t shown_ticks, std::chrono::nanoseconds offset,
                                  std::chrono::nanoseconds tick);

// From /proc/PID/status.
struct ProcStatus {
  std::int32_t parent = 0;
  std::vector<std::int32_t> pids;  // NSpid: in this PID namespace, then in each nested one, down to its own
};
std::optional<ProcStatus> parse_proc_status(std::string_view text);

// kNotFound: no such entry; kDenied: it may not be read.
Result<Stat> read_stat(std::int32_t pid);
// Of a process, or with its thread's id of one thread.
Result<ProcStatus> read_proc_status(const std::string& proc_entry);

// pidfd_open(2), its errno otherwise. A thread that leads no process is none (EINVAL, or ENOENT from Linux 6.9 on).
struct PidfdResult {
  UniqueFd fd;
  int error_number = 0;
};
PidfdResult open_pidfd(std::int32_t pid);
// Every thread has ended, reaped or not.
bool has_ended(int pidfd);
// Ended and reaped: its pid may be another's by now.
bool is_reaped(int pidfd);

}  // namespace run_recorder::process
