#include "server/session_context.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/session.h"

namespace run_recorder {

using std::chrono::steady_clock;

SessionContext::SessionContext(const ServerBounds& the_bounds, WallClock the_clock, Counters& the_counters)
    : bounds(the_bounds),
      clock(std::move(the_clock)),
      counters(the_counters),
      pool(the_bounds.pool_bytes),
      read_buffer(std::make_unique<char[]>(the_bounds.turn_bytes)),
      stall_timer_(io) {}

void SessionContext::wait_for_writer(std::shared_ptr<Session> session) {
  if (std::find(writer_waiters_.begin(), writer_waiters_.end(), session) == writer_waiters_.end()) {
    writer_waiters_.push_back(std::move(session));
  }
}

void SessionContext::wait_for_pool(std::shared_ptr<Session> session) {
  if (std::find(pool_waiters_.begin(), pool_waiters_.end(), session) == pool_waiters_.end()) {
    pool_waiters_.push_back(std::move(session));
  }
}

// Not at once: else a thousand sessions would be woken for each group that is settled, most of them in vain.
void SessionContext::settled(std::size_t bytes) {
  waiting_bytes -= bytes;
  if (waiting_bytes <= bounds.waiting_bytes / 4) {
    for (const auto& session : std::exchange(writer_waiters_, {})) {
      session->wake();
    }
  }
}

void SessionContext::wake_pool_waiters() {
  if (releases_seen_ == pool.releases()) {
    return;
  }
  releases_seen_ = pool.releases();
  for (const auto& session : std::exchange(pool_waiters_, {})) {
    session->wake();
  }
}

void SessionContext::wake_all() {
  for (const auto& [number, session] : sessions) {
    session->wake();
  }
}

void SessionContext::watch_stalls() {
  if (std::exchange(watching_stalls_, true)) {
    return;
  }
  stall_timer_.expires_after(bounds.stall / 5);
  stall_timer_.async_wait([this](const boost::system::error_code& error) {
    watching_stalls_ = false;
    if (!error && check_stalls()) {
      watch_stalls();
    }
  });
}

void SessionContext::stop_watching() {
  stall_timer_.cancel();
}

// Those whose peer is silent first: what they give back lets the others go on, so these are spared until the next
// look.
bool SessionContext::check_stalls() {
  const auto limit = steady_clock::now() - bounds.stall;
  bool watching = false;
  std::vector<std::shared_ptr<Session>> silent;
  std::vector<std::shared_ptr<Session>> waiting;
  for (const auto& [number, session] : sessions) {
    if (session->holds_share() || session->waits_for_pool()) {
      watching = true;
      if (session->last_progress() <= limit) {
        (session->waits_for_pool() ? waiting : silent).push_back(session);
      }
    }
  }
  for (const auto& session : silent.empty() ? waiting : silent) {
    session->refuse_stalled();
  }
  wake_pool_waiters();
  return watching;
}

}  // namespace run_recorder
