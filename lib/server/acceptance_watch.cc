#include "server/acceptance_watch.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

namespace run_recorder {
namespace {

// The disk runs low below so many times min_free, and no longer from so many halves of it on: not in between, so that
// what comes and goes is not a line each time.
constexpr std::uint64_t kLow = 2;
constexpr std::uint64_t kLowNoMoreHalves = 5;

}  // namespace

AcceptanceWatch::AcceptanceWatch(const Spool& spool, const Counters& counters,
                                 std::function<std::string()> why_events_wait)
    : spool_(spool),
      counters_(counters),
      why_events_wait_(std::move(why_events_wait)),
      since_(now_utc()),
      low_(LogLevel::kWarning, "the disk under the spool runs low", "the disk under the spool is no longer low") {}

Acceptance AcceptanceWatch::look(Clock::time_point now) {
  Acceptance seen = acceptance_of(spool_.room(), counters_.spool_failure());
  if (seen.reason == Acceptance::Reason::kMaxBytes && why_events_wait_) seen.backlog = why_events_wait_();
  const MutexLock lock(mutex_);
  if (seen.state != state_ || seen.reason != reason_) {
    state_ = seen.state;
    reason_ = seen.reason;
    since_ = now_utc();
  }
  seen.since = since_;
  seen.disk_low = disk_is_low(seen.room);
  log_room(seen, now);
  return seen;
}

// A spool that failed is the writer's to log, and the main thread's.
void AcceptanceWatch::log_room(const Acceptance& acceptance, Clock::time_point now) {
  if (acceptance.reason == Acceptance::Reason::kNone) return log_end(acceptance.room, now);
  if (acceptance.reason == Acceptance::Reason::kFailed) return;
  Line line = Line::kDiskFull;
  std::string_view what = "the disk under the spool is full, all events are refused";
  if (acceptance.reason == Acceptance::Reason::kMaxBytes) {
    const bool all = acceptance.state == Acceptance::State::kRefusing;
    line = all ? Line::kSpoolFull : Line::kAllButLifecycle;
    what = all ? "the spool is full, all events are refused"
               : "the spool is full, only events of the four lifecycle types are accepted";
  }
  if (std::ranges::none_of(said_, std::identity())) began_ = now;
  last_full_ = now;
  if (std::exchange(said_[static_cast<std::size_t>(line)], true)) return;
  const SpoolRoom& room = acceptance.room;
  std::vector<LogField> fields = {{"LIMIT", limit_of(acceptance.reason)},
                                  {"PATH", room.path.string()},
                                  {"WAITING_BYTES", room.pending_bytes},
                                  {"MAX_BYTES", room.max_bytes},
                                  {"MIN_FREE", room.min_free}};
  if (line == Line::kAllButLifecycle) fields.emplace_back("ALLOWED_BYTES", room.allowed_bytes);
  if (room.free_bytes) fields.emplace_back("FREE_BYTES", *room.free_bytes);
  for (const std::string& cause : {acceptance.backlog, acceptance.failure}) {
    if (!cause.empty()) fields.emplace_back("CAUSE", cause);
  }
  log_message(LogLevel::kError, what, fields);
}

void AcceptanceWatch::log_end(const SpoolRoom& room, Clock::time_point now) {
  if (std::ranges::none_of(said_, std::identity()) || now - last_full_ < kProven) return;
  said_ = {};
  const auto lasted = std::chrono::duration_cast<std::chrono::milliseconds>(now - began_);
  log_info("the spool has room again", {{"PATH", room.path.string()}, {"DURATION", format_duration(lasted)}});
}

bool AcceptanceWatch::disk_is_low(const SpoolRoom& room) {
  if (!room.free_bytes) return low_.active();
  if (*room.free_bytes / kLow < room.min_free) {
    low_.report(disk_in_words(room), {{"FREE_BYTES", *room.free_bytes}, {"MIN_FREE", room.min_free}});
  } else if (*room.free_bytes / kLowNoMoreHalves >= room.min_free / 2) {
    low_.clear({{"FREE_BYTES", *room.free_bytes}});
  }
  return low_.active();
}

}  // namespace run_recorder
