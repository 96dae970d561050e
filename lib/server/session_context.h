// What the sessions of one server share, and the sessions that wait for one another's memory: for the spool's writer,
// for the pool of long lines. It decides when they are woken, and which long line is refused because it stalls.
//
// All of it belongs to the thread that runs `io`.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/time.h"
#include "process/identity.h"
#include "server/counters.h"
#include "server/line_pool.h"
#include "server/types.h"

namespace run_recorder {

class Session;
class SpoolWriter;

struct SessionContext {
  SessionContext(const ServerBounds& the_bounds, WallClock the_clock, Counters& the_counters);

  boost::asio::io_context io{1};
  const ServerBounds bounds;
  const WallClock clock;
  Counters& counters;
  ServerLimits limits;
  std::string connection_prefix;  // "<incarnation>-"
  SpoolWriter* writer = nullptr;
  IdentityCache identities;
  LinePool pool;
  std::unique_ptr<char[]> read_buffer;  // of bounds.turn_bytes: used within one turn only

  std::unordered_map<std::uint64_t, std::shared_ptr<Session>> sessions;  // by number
  std::function<void(std::uint64_t)> on_closed;                          // a session has ended
  std::function<void(UniqueFd, const Refusal&)> on_evicted;              // it has, and its peer is to be told why

  // Bytes handed to the writer and not settled yet.
  std::size_t waiting_bytes = 0;
  // Errors that peers have not read, of all sessions.
  std::size_t unread_bytes = 0;

  // Sessions that may not read until something changes; each is woken once.
  void wait_for_writer(std::shared_ptr<Session> session);
  void wait_for_pool(std::shared_ptr<Session> session);
  // Bytes were settled: wakes those that wait, when enough has been.
  void settled(std::size_t bytes);
  // Wakes those that wait for the pool when something has been given back to it.
  void wake_pool_waiters();
  // The limits have changed.
  void wake_all();
  // There is a long line that could cease to grow. Ticks only as long as there are such.
  void watch_stalls();
  void stop_watching();

 private:
  bool check_stalls();

  std::vector<std::shared_ptr<Session>> writer_waiters_;
  std::vector<std::shared_ptr<Session>> pool_waiters_;
  std::size_t releases_seen_ = 0;
  boost::asio::steady_timer stall_timer_;
  bool watching_stalls_ = false;
};

}  // namespace run_recorder
