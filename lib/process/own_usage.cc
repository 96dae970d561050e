#include "process/own_usage.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "base/number.h"
#include "process/host.h"

namespace run_recorder {
namespace {

using std::chrono::microseconds;

microseconds duration_of(const timeval& time) {
  return std::chrono::seconds{time.tv_sec} + microseconds{time.tv_usec};
}

// Sizes in pages: of the address space, then of what is resident.
void read_memory(OwnUsage& usage) {
  const auto text = read_file("/proc/self/statm", 4'096);
  if (!text) return;
  const std::string_view words = text.value();
  const std::size_t first = words.find(' ');
  if (first == std::string_view::npos) return;
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::string_view rest = words.substr(first + 1);
  if (const auto pages = parse_number<std::uint64_t>(words.substr(0, first))) usage.virtual_bytes = *pages * page;
  if (const auto pages = parse_number<std::uint64_t>(rest.substr(0, rest.find(' ')))) {
    usage.resident_bytes = *pages * page;
  }
}

std::optional<std::uint64_t> count_open_files() {
  std::error_code failed;
  std::uint64_t count = 0;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", failed), end; !failed && entry != end;
       entry.increment(failed)) {
    ++count;
  }
  if (failed || count == 0) return std::nullopt;
  return count - 1;  // but for the one that lists them
}

std::optional<Timestamp> read_start() {
  const auto stat = process::read_stat(getpid());
  timespec since_boot{};
  if (!stat || clock_gettime(CLOCK_BOOTTIME, &since_boot) != 0) return std::nullopt;
  const auto up = std::chrono::seconds{since_boot.tv_sec} + std::chrono::nanoseconds{since_boot.tv_nsec};
  const auto age = up - process::tick() * static_cast<std::int64_t>(stat->start_ticks);
  return now_utc() - std::chrono::duration_cast<microseconds>(age);
}

}  // namespace

OwnUsage own_usage() {
  static const std::optional<Timestamp> started_at = read_start();
  OwnUsage usage;
  usage.started_at = started_at;
  rusage resources{};
  if (getrusage(RUSAGE_SELF, &resources) == 0) {
    usage.processor_time = duration_of(resources.ru_utime) + duration_of(resources.ru_stime);
  }
  read_memory(usage);
  usage.open_files = count_open_files();
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY) usage.max_files = files.rlim_cur;
  return usage;
}

}  // namespace run_recorder
