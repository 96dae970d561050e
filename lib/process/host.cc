#include "process/host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "base/number.h"

namespace run_recorder::process {
namespace {

constexpr std::size_t kShortIdDigits = 16;

// The next word of text, which is taken off it; empty at the end.
std::string_view take_word(std::string_view& text, std::string_view separators = " \t") {
  const std::size_t begin = std::min(text.find_first_not_of(separators), text.size());
  const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
  const std::string_view word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

// A short file of /proc in one read.
Result<std::string> read_proc(const std::string& path) {
  const Result<UniqueFd> file = open_file(path, O_RDONLY);
  if (!file) return file.error();
  std::array<char, 4096> buffer;
  ssize_t got = 0;
  do {
    got = read(file->get(), buffer.data(), buffer.size());
  } while (got < 0 && errno == EINTR);
  // The process may end between the two calls: ESRCH, like an entry that is not there.
  if (got < 0 && errno == ESRCH) return system_error_of("read " + path, ENOENT);
  if (got < 0) return system_error_of("read " + path);
  return std::string(buffer.data(), static_cast<std::size_t>(got));
}

std::string read_id(const char* path) {
  const Result<std::string> text = read_proc(path);
  return text ? short_id(*text) : std::string(kUnknown);
}

Host read_host() {
  Host found;
  found.machine = read_id("/etc/machine-id");
  if (found.machine == kUnknown) found.machine = read_id("/var/lib/dbus/machine-id");
  found.boot = read_id("/proc/sys/kernel/random/boot_id");
  struct stat status {};
  if (stat("/proc/self/ns/pid", &status) == 0) found.pid_namespace = status.st_ino;
  std::array<char, 32> self{};
  const ssize_t length = readlink("/proc/self", self.data(), self.size());
  found.proc_is_ours =
      length > 0 && std::string_view(self.data(), static_cast<std::size_t>(length)) == std::to_string(getpid());
  const Result<std::string> mounts = read_file("/proc/self/mountinfo", 16 << 20);
  found.proc_hides = !mounts || hides_processes(*mounts);
  const Result<std::string> offsets = read_proc("/proc/self/timens_offsets");
  if (offsets) found.boottime_offset = parse_boottime_offset(*offsets);
  return found;
}

}  // namespace

const Host& host() {
  static const Host found = read_host();
  return found;
}

std::string short_id(std::string_view text) {
  std::string digits;
  for (const char byte : text) {
    const bool is_digit = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
    if (byte == '-') continue;
    if (!is_digit || digits.size() == kShortIdDigits) break;
    digits.push_back(byte);
  }
  return digits.size() == kShortIdDigits ? digits : std::string(kUnknown);
}

std::chrono::nanoseconds parse_boottime_offset(std::string_view text) {
  while (!text.empty()) {
    std::string_view line = take_word(text, "\n");
    if (take_word(line) != "boottime") continue;
    const std::optional<std::int64_t> seconds = parse_number<std::int64_t>(take_word(line));
    const std::optional<std::int64_t> nanoseconds = parse_number<std::int64_t>(take_word(line));
    if (!seconds || !nanoseconds) return {};
    return std::chrono::seconds(*seconds) + std::chrono::nanoseconds(*nanoseconds);
  }
  return {};
}

bool hides_processes(std::string_view mountinfo) {
  bool hides = false;
  while (!mountinfo.empty()) {
    const std::size_t end = std::min(mountinfo.find('\n'), mountinfo.size());
    std::string_view line = mountinfo.substr(0, end);
    mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
    for (int skipped = 0; skipped < 4; ++skipped) take_word(line);
    if (take_word(line) != "/proc") continue;
    hides = false;  // this mount lies on top of the ones before
    const std::size_t separator = line.find(" - ");
    if (separator == std::string_view::npos) continue;
    line.remove_prefix(separator + 3);
    take_word(line);  // type
    take_word(line);  // source
    for (std::string_view option = take_word(line, " ,"); !option.empty(); option = take_word(line, " ,")) {
      if (option.starts_with("hidepid=")) hides = option != "hidepid=0" && option != "hidepid=off";
    }
  }
  return hides;
}

std::optional<Stat> parse_stat(std::string_view text) {
  // The name in parentheses may hold anything, parentheses and newlines too: what follows its last one counts.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  text.remove_prefix(name_end + 1);
  const std::string_view state = take_word(text);
  const std::optional<std::int32_t> parent = parse_number<std::int32_t>(take_word(text));
  constexpr int kFieldsBetween = 17;  // the parent is field 4, the start time field 22
  for (int skipped = 0; skipped < kFieldsBetween; ++skipped) take_word(text);
  const std::optional<std::uint64_t> start = parse_number<std::uint64_t>(take_word(text));
  if (state.size() != 1 || !parent || !start) return std::nullopt;
  return Stat{state[0], *parent, *start};
}

std::chrono::nanoseconds tick() {
  static const long per_second = std::max(sysconf(_SC_CLK_TCK), 1L);
  return std::chrono::nanoseconds(std::chrono::seconds(1)) / per_second;
}

// The kernel adds the offset to nanoseconds of 64 bits and then divides; what started before an offset back wraps
// around.
std::uint64_t initial_start_ticks(std::uint64_t shown_ticks, std::chrono::nanoseconds offset,
                                  std::chrono::nanoseconds tick) {
  if (offset.count() == 0) return shown_ticks;
  const std::uint64_t shown = shown_ticks * static_cast<std::uint64_t>(tick.count());
  const auto start = static_cast<std::int64_t>(shown - static_cast<std::uint64_t>(offset.count()));
  return start <= 0 ? 0 : static_cast<std::uint64_t>(start / tick.count());
}

std::optional<ProcStatus> parse_proc_status(std::string_view text) {
  ProcStatus found;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view key = take_word(line);
    if (key == "PPid:") found.parent = parse_number<std::int32_t>(take_word(line)).value_or(0);
    if (key != "NSpid:") continue;
    for (std::string_view word = take_word(line); !word.empty(); word = take_word(line)) {
      const std::optional<std::int32_t> pid = parse_number<std::int32_t>(word);
      if (!pid) return std::nullopt;
      found.pids.push_back(*pid);
    }
    return found.pids.empty() ? std::nullopt : std::optional<ProcStatus>(found);
  }
  return std::nullopt;
}

Result<Stat> read_stat(std::int32_t pid) {
  const Result<std::string> text = read_proc(fmt::format("/proc/{}/stat", pid));
  if (!text) return text.error();
  const std::optional<Stat> stat = parse_stat(*text);
  if (!stat) return Error{ErrorKind::kIo, fmt::format("malformed /proc/{}/stat", pid)};
  return *stat;
}

Result<ProcStatus> read_proc_status(const std::string& proc_entry) {
  const Result<std::string> text = read_proc(proc_entry + "/status");
  if (!text) return text.error();
  std::optional<ProcStatus> status = parse_proc_status(*text);
  if (!status) return Error{ErrorKind::kIo, proc_entry + "/status is not as proc(5) says"};
  return std::move(*status);
}

PidfdResult open_pidfd(std::int32_t pid) {
  // By number: glibc 2.36 declares the call without extern "C".
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return {UniqueFd(), errno};
  return {UniqueFd(static_cast<int>(fd)), 0};
}

bool has_ended(int pidfd) {
  pollfd poll_fd{pidfd, POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 1;
}

bool is_reaped(int pidfd) {
  return syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) != 0 && errno == ESRCH;
}

}  // namespace run_recorder::process
