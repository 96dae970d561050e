#include "base/log.h"

#include <poll.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <memory>

#include "base/json_text.h"
#include "base/log_queue.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kLastLines{1'000};  // to be written at the end, before they are given up
constexpr std::chrono::seconds kStalled{5};             // behind for so long

// Whether the line that this thread gave to the logger last was written as a whole.
thread_local bool line_written = false;

// The descriptor itself: it may be shared with somebody who made it non-blocking, and what was not written is
// counted. One caller at a time.
class StderrSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    for (std::string_view rest(line.data(), line.size()); !rest.empty();) {
      const ssize_t count = ::write(STDERR_FILENO, rest.data(), rest.size());
      if (count >= 0) {
        rest.remove_prefix(static_cast<std::size_t>(count));
      } else if (errno == EAGAIN) {  // whoever shares it made it non-blocking
        pollfd room{STDERR_FILENO, POLLOUT, 0};
        ::poll(&room, 1, -1);
      } else if (errno != EINTR) {
        return;
      }
    }
    line_written = true;
  }
  void flush_() override {}
};

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

struct LogState {
  spdlog::logger lines{"run-recorder", std::make_shared<StderrSink>()};
  std::atomic<LogFormat> format{LogFormat::kText};
  std::atomic<bool> journal{false};
  Mutex mutex;
  std::shared_ptr<LogQueue> queue GUARDED_BY(mutex);  // empty: the caller writes
  Mutex writing;                                      // one line at a time, where there is no queue

  LogState() {
    lines.set_level(spdlog::level::info);
    lines.set_pattern("%v");                             // a line comes complete
    lines.set_error_handler([](const std::string&) {});  // the library's own would wait for stderr
  }
};

// Never destroyed: threads may log until the process is gone.
LogState& log_state() {
  static auto* const state = new LogState;
  return *state;
}

// systemd names the device and inode of the stream it gave (systemd.exec(5) on $JOURNAL_STREAM); a stderr that was
// redirected since is another file. Without the socket sd_journal_sendv(3) would lose messages and report success.
bool stderr_is_journal() {
  const char* text = std::getenv("JOURNAL_STREAM");
  struct stat found {};
  if (text == nullptr || fstat(STDERR_FILENO, &found) != 0) return false;
  if (access("/run/systemd/journal/socket", W_OK) != 0) return false;
  return std::string_view(text) == std::to_string(found.st_dev) + ":" + std::to_string(found.st_ino);
}

// JSON's escapes, with quotes, as valid UTF-8 in one line, without anything a terminal would act on.
std::string json_quoted(std::string_view text) {
  return printable_json(json_string(text));
}

std::string text_value(std::string_view value) {
  const bool plain = !value.empty() && value.find_first_of(" \"=\\") == std::string_view::npos;
  std::string json = json_quoted(value);
  if (plain && json.size() == value.size() + 2) return std::string(value);
  return json;
}

std::string text_message(std::string_view message) {
  std::string json = json_quoted(message);
  if (json.size() == message.size() + 2) return std::string(message);
  // Quotes and backslashes are harmless here; only what is not is shown escaped.
  std::string out;
  for (std::size_t i = 1; i + 1 < json.size(); ++i) {
    if (json[i] == '\\' && json[i + 1] == '"') ++i;
    out.push_back(json[i]);
  }
  return out;
}

std::string lower_case(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// "message run_id=r1 attempt=2"
std::string message_with_fields(std::string_view message, std::span<const LogField> fields) {
  std::string line = text_message(message);
  for (const LogField& field : fields) line += " " + lower_case(field.name) + "=" + text_value(field.value);
  return line;
}

// syslog(3)'s numbers.
int priority_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return 7;
    case LogLevel::kInfo:
      return 6;
    case LogLevel::kWarning:
      return 4;
    case LogLevel::kError:
      return 3;
  }
  return 3;
}

bool send_to_journal(const std::vector<std::string>& entry) {
  std::vector<iovec> parts;
  parts.reserve(entry.size());
  for (const std::string& field : entry) parts.push_back({const_cast<char*>(field.data()), field.size()});
  return sd_journal_sendv(parts.data(), static_cast<int>(parts.size())) == 0;
}

bool write_to_stderr(const LogQueue::Line& line) {
  line_written = !log_enabled(line.level);  // the level may have changed since: not wanted any more is not lost
  log_state().lines.log(spdlog_level(line.level), line.text);
  return line_written;
}

bool write_line(const LogQueue::Line& line) {
  return (!line.entry.empty() && send_to_journal(line.entry)) || write_to_stderr(line);
}

LogQueue::Line line_of(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  const LogState& state = log_state();
  const bool json = state.format.load(std::memory_order_relaxed) == LogFormat::kJson;
  const Timestamp now = now_utc();
  LogQueue::Line line;
  line.level = level;
  line.text = json ? format_json_line(now, level, message, fields) : format_text_line(now, level, message, fields);
  if (state.journal.load(std::memory_order_relaxed)) line.entry = journal_entry(level, message, fields);
  return line;
}

LogQueue::Line line_of_dropped(std::uint64_t count) {
  const LogField field("COUNT", count);
  return line_of(LogLevel::kWarning, "log lines were dropped here: the log was not read or could not be written",
                 {&field, 1});
}

std::shared_ptr<LogQueue> log_queue() {
  LogState& state = log_state();
  const MutexLock lock(state.mutex);
  return state.queue;
}

void exchange_log_queue(std::shared_ptr<LogQueue> queue) {
  LogState& state = log_state();
  const MutexLock lock(state.mutex);
  state.queue = std::move(queue);
}

// The library's own handler would write to stderr, and wait there.
[[noreturn]] void log_and_abort() {
  std::string what = "none";
  try {
    if (const auto exception = std::current_exception()) std::rethrow_exception(exception);
  } catch (const std::exception& exception) {
    what = exception.what();
  } catch (...) {
    what = "unknown";
  }
  log_error("aborting on an uncaught exception", {{"EXCEPTION", what}});
  if (const auto queue = log_queue()) queue->flush(kLastLines);
  std::abort();
}

void log_list(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  log_message(level, message, {fields.begin(), fields.size()});
}

}  // namespace

void set_up_log(const LogOptions& options) {
  LogState& state = log_state();
  state.lines.set_level(spdlog_level(options.level));
  state.format = options.format;
  state.journal = stderr_is_journal();
}

bool log_is_journal() {
  return log_state().journal.load(std::memory_order_relaxed);
}

bool log_enabled(LogLevel level) {
  return log_state().lines.should_log(spdlog_level(level));
}

LogWriter::LogWriter() {
  exchange_log_queue(std::make_shared<LogQueue>(write_line, line_of_dropped));
  std::set_terminate(log_and_abort);
}

LogWriter::~LogWriter() {
  if (log_queue()->finish(kLastLines)) exchange_log_queue(nullptr);
}

LogHealth log_health() {
  const auto queue = log_queue();
  if (!queue) return {};
  return {queue->dropped(), queue->behind_for() >= kStalled};
}

void log_message(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  if (!log_enabled(level)) return;
  const int errno_before = errno;
  try {
    LogQueue::Line line = line_of(level, message, fields);
    if (const auto queue = log_queue()) {
      queue->push(std::move(line));
    } else {
      const MutexLock lock(log_state().writing);
      write_line(line);
    }
  } catch (const std::exception&) {
    // Out of memory, at worst: a message is lost, the daemon goes on.
  }
  errno = errno_before;
}

void log_debug(std::string_view message, std::initializer_list<LogField> fields) {
  log_list(LogLevel::kDebug, message, fields);
}
void log_info(std::string_view message, std::initializer_list<LogField> fields) {
  log_list(LogLevel::kInfo, message, fields);
}
void log_warning(std::string_view message, std::initializer_list<LogField> fields) {
  log_list(LogLevel::kWarning, message, fields);
}
void log_error(std::string_view message, std::initializer_list<LogField> fields) {
  log_list(LogLevel::kError, message, fields);
}

std::string format_text_line(Timestamp time, LogLevel level, std::string_view message,
                             std::span<const LogField> fields) {
  std::string line = format_rfc3339(time) + " ";
  line += to_string(level);
  return line + " " + message_with_fields(message, fields);
}

std::string format_json_line(Timestamp time, LogLevel level, std::string_view message,
                             std::span<const LogField> fields) {
  std::string line = R"({"time":")" + format_rfc3339(time) + R"(","level":")";
  line += to_string(level);
  line += R"(","message":)" + json_quoted(message);
  for (const LogField& field : fields) {
    line +=
        "," + json_quoted(lower_case(field.name)) + ":" + (field.is_number ? field.value : json_quoted(field.value));
  }
  return line + "}";
}

std::vector<std::string> journal_entry(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  std::vector<std::string> entry;
  entry.reserve(fields.size() + 3);
  entry.push_back("PRIORITY=" + std::to_string(priority_of(level)));
  entry.push_back("SYSLOG_IDENTIFIER=" + std::string(program_invocation_short_name));
  entry.push_back("MESSAGE=" + message_with_fields(message, fields));
  for (const LogField& field : fields) entry.push_back(std::string(field.name) + "=" + field.value);
  return entry;
}

RateLimiter::RateLimiter(LogLevel level, int lines_a_minute, std::string others, SteadyClock clock)
    : level_(level),
      lines_a_minute_(lines_a_minute),
      others_(std::move(others)),
      clock_(clock ? std::move(clock) : SteadyClock(std::chrono::steady_clock::now)) {}

bool RateLimiter::admit() {
  tick();
  if (logged_ == 0) minute_ = clock_();
  if (logged_ < lines_a_minute_) {
    ++logged_;
    return true;
  }
  ++counted_;
  return false;
}

void RateLimiter::tick() {
  if (logged_ == 0 || clock_() - minute_ < std::chrono::minutes{1}) return;
  if (counted_ > 0) log_list(level_, others_, {{"COUNT", counted_}});
  logged_ = 0;
  counted_ = 0;
}

RepeatGuard::RepeatGuard(LogLevel level, std::string begins, std::string ends, SteadyClock clock)
    : level_(level),
      begins_(std::move(begins)),
      ends_(std::move(ends)),
      clock_(clock ? std::move(clock) : SteadyClock(std::chrono::steady_clock::now)) {}

bool RepeatGuard::report(std::string_view detail, std::initializer_list<LogField> fields) {
  const MutexLock lock(mutex_);
  ++count_;
  detail_ = detail;
  if (active_) return false;
  active_ = true;
  since_ = clock_();
  log_list(level_, detail.empty() ? begins_ : begins_ + ": " + detail_, fields);
  return true;
}

bool RepeatGuard::clear(std::initializer_list<LogField> fields) {
  const MutexLock lock(mutex_);
  if (!active_) return false;
  const auto lasted = std::chrono::duration_cast<std::chrono::milliseconds>(clock_() - since_);
  std::vector<LogField> all = {{"COUNT", count_}, {"DURATION", format_duration(lasted)}};
  all.insert(all.end(), fields.begin(), fields.end());
  active_ = false;
  count_ = 0;
  detail_.clear();
  log_message(LogLevel::kInfo, ends_, all);
  return true;
}

bool RepeatGuard::active() const {
  const MutexLock lock(mutex_);
  return active_;
}

std::uint64_t RepeatGuard::count() const {
  const MutexLock lock(mutex_);
  return count_;
}

std::string RepeatGuard::detail() const {
  const MutexLock lock(mutex_);
  return detail_;
}

}  // namespace run_recorder
