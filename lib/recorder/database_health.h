// Whether the database can be used, since when and why not, and how soon it is tried again. up(), lost() and what
// else changes it is for the recorder's thread; status(), state() and back_since() for any. Clocks are parameters.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/time.h"

namespace run_recorder {

enum class DatabaseState {
  kConnecting,  // not reached yet since the start
  kUp,
  kAway,     // unreachable, slow or failing; events are spooled
  kRefused,  // reached, but it refuses this daemon; counts as away
};
std::string_view to_string(DatabaseState state);

// How long to wait before the next try. Pure; for one thread.
class Backoff {
 public:
  static constexpr std::chrono::milliseconds kFirst{100};
  static constexpr std::chrono::milliseconds kLongest{5'000};

  void failed() { ++failures_; }
  void succeeded() { failures_ = 0; }
  // Something less is tried next, and at once.
  void tries_less() { failures_ = failures_ < 1 ? failures_ : 1; }
  // About a try a second, as long as it is doubtful who records.
  void in_doubt() { failures_ = kFailuresOfDoubt; }
  int failures() const { return failures_; }  // in a row, of connections that failed or were lost before any use
  // A connection that is lost is made again at once, but not over and over: a database that lets itself be connected
  // to and then fails every commit is away like one that does not answer.
  bool over() const { return failures_ < 2; }
  // Grows with each failure. percent: 80 to 120, so that many daemons do not come back in the same moment.
  std::chrono::milliseconds delay(int percent) const;

 private:
  static constexpr int kFailuresOfDoubt = 4;
  int failures_ = 0;
};

struct DatabaseStatus {
  DatabaseState state = DatabaseState::kConnecting;
  std::string error;               // why it is away or refusing; empty when up
  std::optional<Timestamp> since;  // since when the state holds
  std::uint64_t reconnects = 0;
  std::map<std::string, std::uint64_t> errors;  // by kind: SQLSTATE, else a word
};

// What its log says, its status says already.
class DatabaseHealth {
 public:
  using SteadyClock = std::function<std::chrono::steady_clock::time_point()>;
  using UtcClock = std::function<Timestamp()>;
  // shown_url: for the log, without its password.
  explicit DatabaseHealth(std::string shown_url, SteadyClock steady = std::chrono::steady_clock::now,
                          UtcClock utc = now_utc);

  // It took a commit or a heartbeat, or there is nothing to give it yet.
  void up();
  // The connection is given up, or could not be made. was_connected: there was one.
  void lost(const Error& error, bool was_connected);
  // It works, but another process may record under the same id. why: for the log and the status.
  void in_doubt(const std::string& why);
  void no_longer_in_doubt() { doubtful_.clear(); }
  void count(const Error& error);

  Backoff& backoff() { return backoff_; }
  const Backoff& backoff() const { return backoff_; }

  DatabaseStatus status() const;
  DatabaseState state() const;
  // When it came back after it had been away; empty: it never was.
  std::optional<std::chrono::steady_clock::time_point> back_since() const;

 private:
  void note_up(bool was_away);
  void note_lost(DatabaseState state, const std::string& message);
  void note_doubt(const std::string& why);

  const std::string shown_url_;
  const SteadyClock steady_;
  const UtcClock utc_;
  Backoff backoff_;
  RepeatGuard away_;
  RepeatGuard refused_;
  RepeatGuard doubtful_;
  mutable Mutex mutex_;
  DatabaseStatus status_ GUARDED_BY(mutex_);
  std::optional<std::chrono::steady_clock::time_point> back_since_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
