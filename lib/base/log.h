// The log: text or JSON lines on stderr, or the journal with its fields where stderr is the journal. Set up once in
// main, then used from any thread; every call is safe together. Before set_up_log() messages go to stderr as text at
// info. The caller writes the line; while there is a LogWriter its thread does, and callers never block on the log's
// reader.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/time.h"

namespace run_recorder {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };
std::string_view to_string(LogLevel level);
std::string_view to_string(LogFormat format);

// A field of a message. Names are upper case as the journal wants them (RUN_ID); text and JSON show them in lower
// case. Values are any bytes: what would break a line or a terminal is escaped.
struct LogField {
  LogField(std::string_view field_name, std::string_view text) : name(field_name), value(text) {}
  LogField(std::string_view field_name, const std::string& text) : name(field_name), value(text) {}
  LogField(std::string_view field_name, const char* text) : name(field_name), value(text) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) LogField(std::string_view field_name, T number)
      : name(field_name), value(std::to_string(number)), is_number(true) {}

  std::string_view name;  // must outlive the call
  std::string value;
  bool is_number = false;  // JSON shows it without quotes
};

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
};
// May be called again: at reload, after a fork.
void set_up_log(const LogOptions& options);
// Whether messages go to the journal with their fields; as the last set_up_log() found it.
bool log_is_journal();
bool log_enabled(LogLevel level);

// While it exists no thread blocks on the log's reader, be it a pipe, a terminal, a file or the journal: see
// base/log_queue.h. Its destructor waits at most a second for the queue to drain; lines after a timeout are dropped.
// It logs an uncaught exception before the process aborts. One at a time; for main.
class LogWriter {
 public:
  LogWriter();
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;
};
struct LogHealth {
  std::uint64_t lines_dropped = 0;  // since the LogWriter was made
  bool stalled = false;             // the writer has been behind for 5 s
};
LogHealth log_health();

// log_info("run is stuck", {{"RUN_ID", run.run_id}, {"ATTEMPT", run.attempt}});
// Never throws and never fails: what cannot be written is lost. errno is kept. Passwords do not belong here: see
// redact_url in base/url.h.
void log_message(LogLevel level, std::string_view message, std::span<const LogField> fields);
void log_debug(std::string_view message, std::initializer_list<LogField> fields = {});
void log_info(std::string_view message, std::initializer_list<LogField> fields = {});
void log_warning(std::string_view message, std::initializer_list<LogField> fields = {});
void log_error(std::string_view message, std::initializer_list<LogField> fields = {});

// The lines themselves, without newline.
std::string format_text_line(Timestamp time, LogLevel level, std::string_view message,
                             std::span<const LogField> fields);
std::string format_json_line(Timestamp time, LogLevel level, std::string_view message,
                             std::span<const LogField> fields);
// "NAME=value" for sd_journal_sendv(3), PRIORITY and MESSAGE first.
std::vector<std::string> journal_entry(LogLevel level, std::string_view message, std::span<const LogField> fields);

// Logs at most so many lines a minute; one line counts those that were suppressed. One thread at a time.
class RateLimiter {
 public:
  using SteadyClock = std::function<std::chrono::steady_clock::time_point()>;
  // others is the counting line's message, as "more events contradicted their runs"; it gets the field COUNT.
  RateLimiter(LogLevel level, int lines_a_minute, std::string others, SteadyClock clock = {});

  // Whether the next line may be logged; otherwise it is counted.
  bool admit();
  // Logs the count once the minute is over. To be called at least every few seconds.
  void tick();

 private:
  const LogLevel level_;
  const int lines_a_minute_;
  const std::string others_;
  const SteadyClock clock_;
  std::chrono::steady_clock::time_point minute_{};
  int logged_ = 0;
  std::uint64_t counted_ = 0;
};

// A lasting condition, like an unreachable database: logged when it begins and when it ends, then with the number of
// reports and the duration. Thread-safe.
class RepeatGuard {
 public:
  using SteadyClock = std::function<std::chrono::steady_clock::time_point()>;
  // begins and ends are the two messages, as "the database is away" and "the database is back".
  RepeatGuard(LogLevel level, std::string begins, std::string ends, SteadyClock clock = {});

  // The condition holds. The first time logs "<begins>: <detail>" and returns true.
  bool report(std::string_view detail, std::initializer_list<LogField> fields = {});
  // The condition does not hold. Logs "<ends>" with COUNT and DURATION at info, and returns true, where it did
  // before.
  bool clear(std::initializer_list<LogField> fields = {});
  bool active() const;
  std::uint64_t count() const;  // reports since it began; 0 when not active
  std::string detail() const;   // the latest; empty when not active

 private:
  const LogLevel level_;
  const std::string begins_, ends_;
  const SteadyClock clock_;
  mutable Mutex mutex_;
  bool active_ GUARDED_BY(mutex_) = false;
  std::uint64_t count_ GUARDED_BY(mutex_) = 0;
  std::string detail_ GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point since_ GUARDED_BY(mutex_){};
};

}  // namespace run_recorder
