// The event socket: workers connect, send lines, and get an answer once what they sent is on disk (contract section
// 4).
//
// Threads: two of its own. One runs every session (they are coroutines; none of them ever waits for the database or a
// peer that does not read); the other appends to the spool, one sync for all that wait. While little comes, the first
// does both, and the other takes the sessions over where the disk keeps it waiting (spool_writer.h). start() and
// stop() belong to the thread that owns the server; everything else is safe from any thread.
//
// Every quantity that a peer could make grow has a limit here: ServerBounds and ServerLimits.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "server/acceptance.h"
#include "server/types.h"
#include "spool/spool.h"

namespace run_recorder {

class EventServer {
 public:
  EventServer(ServerOptions options, Spool& spool, WallClock clock, OnAccepted on_accepted);
  // Stops at once when stop() was not called.
  ~EventServer();
  EventServer(const EventServer&) = delete;
  EventServer& operator=(const EventServer&) = delete;

  // Binds, listens, starts the threads. StartError: 69 when the path is taken (by a live listener, a file that is no
  // socket, a symbolic link) or cannot be used or a user or group is unknown, 78 when the path is too long for a
  // socket. A socket nobody listens on is replaced. A missing folder is made, 0755.
  void start();

  // Accepts and reads nothing more, waits until everything that was read as complete lines is durable and answered,
  // but at most `within` (or as long as one append takes), then closes all connections and removes the socket, if it
  // is still its own.
  void stop(std::chrono::milliseconds within);

  // An identity as in Event::connection.
  bool connection_open(std::string_view connection) const;

  // Waits until every byte that could be read from any connection at the moment of the call, and from every peer that
  // waited to be accepted, has been read, and what it brought is durable and handed to OnAccepted, or refused. False:
  // not within that time.
  bool settle_pending(std::chrono::milliseconds within);

  ServerCounters counters() const;

  // Whether events are accepted now. Logs what changed since somebody looked last: to be called once a second.
  Acceptance acceptance();

  // Changes nothing when it fails (kInvalid: a user or group is unknown). It takes effect soon after.
  Result<void> reconfigure(const ServerLimits& limits);

  // For the watchdog: the sessions' thread answers within that time. False before start() and after stop().
  bool responds(std::chrono::milliseconds within) const;
  // The thread that appends has made no progress for a minute.
  bool writer_stuck() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace run_recorder
