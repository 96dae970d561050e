#include "recorder/index_watch.h"

#include <fmt/format.h>

#include <utility>

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kCheckMissingEvery{1'000};
constexpr std::chrono::milliseconds kCheckEvery{30'000};

}  // namespace

IndexWatch::IndexWatch(const StoreOptions& options, bool builds, UtcClock utc)
    : builds_(builds),
      utc_(std::move(utc)),
      building_(options),
      missing_(LogLevel::kWarning, "indexes are missing", "all indexes exist") {}

bool IndexWatch::due(Clock::time_point now) const {
  return now - checked_ >= (waiting_for() ? kCheckMissingEvery : kCheckEvery);
}

Result<void> IndexWatch::check(Store& store, Clock::time_point now) {
  checked_ = now;
  const auto state = store.indexes();
  if (!state) return state.error();
  if (!state->events_unique && !builds_) {
    return Error{ErrorKind::kRefused,
                 fmt::format("the history lost its unique index of (run_id, event_id): {}", state->sql)};
  }
  events_unique_ = state->events_unique;
  if (!state->missing.empty() && builds_) building_.begin();
  note(*state);
  return {};
}

std::optional<IndexWait> IndexWatch::waiting_for() const {
  const MutexLock lock(mutex_);
  return waiting_for_;
}

void IndexWatch::note(const IndexState& state) {
  std::optional<IndexWait> wait;
  if (!state.missing.empty()) {
    wait.emplace(IndexWait{state.missing, state.events_unique, utc_(), state.held_up_by, building_.error()});
  }
  bool again = false;
  {
    const MutexLock lock(mutex_);
    again = wait && waiting_for_;
    if (again) wait->since = waiting_for_->since;
    waiting_for_ = wait;
  }
  if (!wait) {
    missing_.clear();
    reason_logged_.clear();
    return;
  }
  if (!again) return;  // those of a small table take a moment
  const std::string why = wait->error.empty() ? wait->held_up_by : wait->error;
  const bool said = missing_.active() && why == reason_logged_;
  reason_logged_ = why;
  const std::string since = format_rfc3339(wait->since);
  const std::string decided = wait->events_unique ? "" : "; each event is compared with the history meanwhile";
  const std::string detail = fmt::format("{} since {}{}", wait->indexes, since, decided);
  if (!missing_.report(detail, {{"WAITS_FOR", why}}) && !said) {
    log_warning("indexes are still missing: " + detail, {{"WAITS_FOR", why}});
  }
}

}  // namespace run_recorder
