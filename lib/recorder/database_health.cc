#include "recorder/database_health.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "recorder/failure.h"

namespace run_recorder {
namespace {

constexpr std::size_t kErrorKinds = 64;  // that are counted each by itself; a trigger may make up SQLSTATEs

// The database can be reached, and does not let this daemon do its work: a right, a table or a column is missing.
bool is_refusal(const Error& error) {
  return error.kind == ErrorKind::kRefused || error.kind == ErrorKind::kNotFound || error.sqlstate.starts_with("42");
}

std::string_view error_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return "invalid";
    case ErrorKind::kNotFound:
      return "not_found";
    case ErrorKind::kConflict:
      return "conflict";
    case ErrorKind::kFull:
      return "full";
    case ErrorKind::kUnavailable:
      return "unavailable";
    case ErrorKind::kDenied:
      return "denied";
    case ErrorKind::kData:
      return "data";
    case ErrorKind::kRefused:
      return "refused";
    case ErrorKind::kInDoubt:
      return "in_doubt";
    case ErrorKind::kCorrupt:
      return "corrupt";
    case ErrorKind::kIo:
      return "io";
    case ErrorKind::kInternal:
      return "internal";
  }
  return "unknown";
}

}  // namespace

std::string_view to_string(DatabaseState state) {
  switch (state) {
    case DatabaseState::kConnecting:
      return "connecting";
    case DatabaseState::kUp:
      return "up";
    case DatabaseState::kAway:
      return "away";
    case DatabaseState::kRefused:
      return "refused";
  }
  return "";
}

std::chrono::milliseconds Backoff::delay(int percent) const {
  assert(percent >= 80 && percent <= 120);
  const int doublings = std::clamp(failures_ - 1, 0, 10);
  return std::min(kLongest, kFirst * (1 << doublings)) * percent / 100;
}

DatabaseHealth::DatabaseHealth(std::string shown_url, SteadyClock steady, UtcClock utc)
    : shown_url_(std::move(shown_url)),
      steady_(std::move(steady)),
      utc_(std::move(utc)),
      away_(LogLevel::kError, "the database is away, events are spooled", "the database is back"),
      refused_(LogLevel::kError, "the database refuses this daemon, events are spooled",
               "the database is usable again"),
      doubtful_(LogLevel::kWarning, "the recorder id is in doubt, events are spooled", "the recorder id is settled") {
}

void DatabaseHealth::up() {
  backoff_.succeeded();
  note_up(away_.active() || refused_.active());
  away_.clear();
  refused_.clear();
}

void DatabaseHealth::note_up(bool was_away) {
  const MutexLock lock(mutex_);
  if (status_.state == DatabaseState::kUp) return;
  if (status_.state != DatabaseState::kConnecting) ++status_.reconnects;
  status_.state = DatabaseState::kUp;
  status_.error.clear();
  status_.since = utc_();
  if (was_away) back_since_ = steady_();
}

void DatabaseHealth::lost(const Error& error, bool was_connected) {
  const bool first = was_connected && backoff_.failures() == 0;
  backoff_.failed();
  count(error);
  // A server that has become read-only: the next connection tells whether it is a standby or a setting, and says it.
  if (first && error.sqlstate == kReadOnlyState) return;
  const bool refused = is_refusal(error);
  note_lost(refused ? DatabaseState::kRefused : DatabaseState::kAway, error.message);
  (refused ? refused_ : away_).report(error.message, {{"URL", shown_url_}});
}

void DatabaseHealth::note_lost(DatabaseState state, const std::string& message) {
  const MutexLock lock(mutex_);
  if (status_.state != state) status_.since = utc_();
  status_.state = state;
  status_.error = message;
}

void DatabaseHealth::in_doubt(const std::string& why) {
  note_doubt(why);
  doubtful_.report(why);
}

void DatabaseHealth::note_doubt(const std::string& why) {
  const MutexLock lock(mutex_);
  if (status_.state == DatabaseState::kUp) {
    status_.state = DatabaseState::kAway;
    status_.since = utc_();
  }
  status_.error = why + "; if it is seen again, this one takes a new id";
}

void DatabaseHealth::count(const Error& error) {
  const MutexLock lock(mutex_);
  std::string kind = error.sqlstate.empty() ? std::string(error_name(error.kind)) : error.sqlstate;
  if (status_.errors.size() >= kErrorKinds && !status_.errors.contains(kind)) kind = "other";
  ++status_.errors[std::move(kind)];
}

DatabaseStatus DatabaseHealth::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

DatabaseState DatabaseHealth::state() const {
  const MutexLock lock(mutex_);
  return status_.state;
}

std::optional<std::chrono::steady_clock::time_point> DatabaseHealth::back_since() const {
  const MutexLock lock(mutex_);
  return back_since_;
}

}  // namespace run_recorder
