#include "cli/run_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "base/number.h"
#include "base/percent.h"
#include "base/time.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::string_view kLogSuffix = ".log";
// Of a name; a file's has at most 255 bytes, with @N and the suffix.
constexpr std::size_t kLongestName = 200;
constexpr int kMostOfARun = 1'000;
// Of what does not fit, so much at most, in memory.
constexpr std::uint64_t kMostEndBytes = std::uint64_t{1} << 20;
// For the two lines that say what is missing.
constexpr std::uint64_t kOwnWordsBytes = 200;
// A longer line is written in parts.
constexpr std::size_t kLongestHeldLine = std::size_t{64} << 10;

// FNV-1a; what it tells apart is in the history of its runs too.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14'695'981'039'346'656'037U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1'099'511'628'211U;
  return hash;
}

// As it is in a name; none of +, @ and / is.
std::string spelled(std::string_view run_id) {
  std::string name = percent_encode(run_id);
  if (name.starts_with('.')) name.replace(0, 1, "%2E");
  return name;
}

struct LogFile {
  std::string name;
  int number = 1;  // of the files of that name
};

// "NAME.log", "NAME@2.log".
std::optional<LogFile> parse_file_name(std::string_view file) {
  if (!file.ends_with(kLogSuffix)) return std::nullopt;
  file.remove_suffix(kLogSuffix.size());
  const std::size_t at = std::min(file.find('@'), file.size());
  LogFile parsed{.name = std::string(file.substr(0, at))};
  if (at == file.size()) return parsed;
  const std::optional<int> number = parse_number<int>(file.substr(at + 1));
  if (!number || *number < 2) return std::nullopt;
  parsed.number = *number;
  return parsed;
}

}  // namespace

std::string log_name_of(std::string_view run_id) {
  std::string name = spelled(run_id);
  if (name.size() <= kLongestName) return name;
  const std::string end = fmt::format("+{:016x}", hash_of(run_id));
  return name.substr(0, kLongestName - end.size()) + end;
}

Result<RunLog> RunLog::create(const std::string& folder, std::string_view run_id, std::uint64_t max_bytes) {
  if (const Result<void> made = make_directories(folder, 0700); !made) return made.error();
  const std::string name = log_name_of(run_id);
  for (int number = 1; number <= kMostOfARun; ++number) {
    const std::string path =
        fmt::format("{}/{}{}{}", folder, name, number == 1 ? "" : fmt::format("@{}", number), kLogSuffix);
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd && errno == EEXIST) continue;
    if (!fd) return system_error_of("open " + path);
    (void)::flock(fd.get(), LOCK_EX | LOCK_NB);
    return RunLog(std::move(fd), path, max_bytes);
  }
  return Error{ErrorKind::kFull, fmt::format("{} has {} logs of this run already", folder, kMostOfARun)};
}

RunLog::RunLog(UniqueFd fd, std::string path, std::uint64_t max_bytes)
    : fd_(std::move(fd)),
      path_(std::move(path)),
      room_(max_bytes - std::min(max_bytes / 4, kMostEndBytes) - std::min(max_bytes / 4, kOwnWordsBytes)),
      end_bytes_(static_cast<std::size_t>(std::min(max_bytes / 4, kMostEndBytes))) {}

void RunLog::write(Stream stream, std::string_view bytes) {
  if (!fd_) return;
  std::string& line = lines_[static_cast<std::size_t>(stream)];
  const std::size_t newline = bytes.rfind('\n');
  if (newline != std::string_view::npos) {
    append(line);
    append(bytes.substr(0, newline + 1));
    line.clear();
    bytes.remove_prefix(newline + 1);
  }
  line.append(bytes);
  if (line.size() >= kLongestHeldLine) pause(stream);
}

void RunLog::pause(Stream stream) {
  std::string& line = lines_[static_cast<std::size_t>(stream)];
  append(line);
  line.clear();
}

void RunLog::finish() {
  pause(Stream::kOutput);
  pause(Stream::kErrors);
  write_end();
  fd_.reset();
}

void RunLog::append(std::string_view bytes) {
  if (!fd_ || bytes.empty()) return;
  if (end_.empty() && left_out_ == 0) {
    auto fits = static_cast<std::size_t>(std::min<std::uint64_t>(room_, bytes.size()));
    // It ends with a whole line where it can.
    if (fits < bytes.size()) {
      const std::size_t newline = bytes.substr(0, fits).rfind('\n');
      const bool is_line = !in_line_ && bytes.find('\n') != std::string_view::npos;
      if (newline != std::string_view::npos) {
        fits = newline + 1;
      } else if (is_line) {
        fits = 0;
      }
    }
    write_file(bytes.substr(0, fits));
    room_ -= fits;
    bytes.remove_prefix(fits);
  }
  if (!bytes.empty()) keep_end(bytes);
}

void RunLog::keep_end(std::string_view bytes) {
  end_.append(bytes);
  if (end_.size() <= 2 * end_bytes_) return;
  left_out_ += end_.size() - end_bytes_;
  end_.erase(0, end_.size() - end_bytes_);
  if (!std::exchange(full_said_, true)) write_own_line("the log is full; its end follows when the command has ended");
}

// As it is where all of it fits, else its last lines.
void RunLog::write_end() {
  if (end_.size() > end_bytes_ || left_out_ > 0) {
    std::size_t cut = end_.size() - std::min(end_.size(), end_bytes_);
    const std::size_t newline = end_.find('\n', cut);
    if (newline != std::string::npos && newline + 1 < end_.size()) cut = newline + 1;
    left_out_ += cut;
    end_.erase(0, cut);
    write_own_line(fmt::format("{} left out here", count_of(left_out_, "byte")));
  }
  write_file(end_);
  end_.clear();
}

void RunLog::write_own_line(const std::string& text) {
  write_file(fmt::format("{}run-recorder: {}\n", in_line_ ? "\n" : "", text));
}

void RunLog::write_file(std::string_view bytes) {
  if (!fd_ || bytes.empty()) return;
  if (const Result<void> written = write_all(fd_.get(), bytes); !written) {
    problem_ = Error{written.error().kind, path_ + ": " + written.error().message};
    fd_.reset();
    return;
  }
  in_line_ = bytes.back() != '\n';
}

Result<std::vector<FoundLog>> find_logs(const std::string& folder, std::string_view run_id) {
  const std::string whole = log_name_of(run_id);
  const std::string beginning = spelled(run_id);
  std::map<std::string, int> newest;  // by name
  std::error_code problem;
  std::filesystem::directory_iterator entry(folder, problem);
  for (const std::filesystem::directory_iterator end; !problem && entry != end; entry.increment(problem)) {
    const std::optional<LogFile> file = parse_file_name(entry->path().filename().string());
    if (!file || !(file->name == whole || file->name.starts_with(beginning))) continue;
    int& number = newest[file->name];
    number = std::max(number, file->number);
  }
  if (problem) return system_error_of("open " + folder, problem.value());
  std::vector<FoundLog> found;
  for (const auto& [name, number] : newest) {
    if (newest.contains(whole) && name != whole) continue;
    found.push_back(
        {fmt::format("{}/{}{}{}", folder, name, number == 1 ? "" : fmt::format("@{}", number), kLogSuffix), name});
  }
  return found;
}

Result<UniqueFd> open_log(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fd) return system_error_of("open " + path);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_error_of("look at " + path);
  if (!S_ISREG(status.st_mode)) return Error{ErrorKind::kInvalid, path + " is no file"};
  return fd;
}

bool is_being_written(int log_fd) {
  if (::flock(log_fd, LOCK_SH | LOCK_NB) != 0) return errno == EWOULDBLOCK;
  ::flock(log_fd, LOCK_UN);
  return false;
}

}  // namespace run_recorder
