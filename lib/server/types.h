// What the event socket's parts share: its limits and options, what it hands to the recorder, its counters, and the
// submission that a session hands to the spool's writer. Plain values; whoever holds one says which thread may.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/policies.h"
#include "protocol/protocol.h"
#include "run/event.h"

namespace run_recorder {

// What a reload may change; it holds for lines that begin and peers that connect afterwards. Peers that are connected
// and may not send any more are told so and closed, once what was read of them is settled.
struct ServerLimits : SocketLimits {
  TypeFilter filter;
  // Names or numbers. Both empty: every peer that the socket's mode lets in may send. Else the peer's user must be
  // one of the users, or one of its groups (the supplementary ones too) one of the groups; there is no exemption for
  // root.
  std::vector<std::string> allow_users;
  std::vector<std::string> allow_groups;
};

// Not configurable; a parameter so that tests can reach them.
struct ServerBounds {
  std::size_t turn_bytes = 16 << 10;       // one session's share of the I/O thread before the others have theirs
  std::size_t partial_bytes = 4 << 10;     // of an unfinished line kept by the session itself
  std::size_t pool_bytes = 16 << 20;       // for all unfinished lines that are longer (at least one of line_bytes)
  std::chrono::milliseconds stall{5'000};  // a longer line that does not grow for this long is refused
  std::size_t session_waiting_bytes = 256 << 10;  // of one session, handed to the spool and not yet durable
  std::size_t waiting_bytes = 8 << 20;            // of all sessions together
  std::size_t commit_bytes = 1 << 20;             // appended with one sync
  std::size_t small_commit_bytes = 16 << 10;      // up to this by the sessions' own thread
  std::size_t unread_bytes = 64 << 10;            // errors that the peer does not read
  std::chrono::milliseconds unread_grace{200};    // and for how long it may take nothing before it is closed
  std::size_t lingering = 64;                     // refused peers that are given time to read why
  std::chrono::milliseconds linger{1'000};
};

struct ServerOptions {
  std::filesystem::path path;
  mode_t mode = 0660;
  std::string group;   // name or number; empty: the process's own
  int listen_fd = -1;  // a listening socket from the service manager; path, mode and group are then its affair
  ServerLimits limits;
  ServerBounds bounds;
  std::size_t other_descriptors = 0;  // what the process may hold open besides what descriptors_for() says
  // A connection has ended, by its peer or because it was closed: the sender's identity and the connection's, as in
  // Event. On the sessions' thread, once connection_open() is false and, unless it was cut off, everything that came
  // over it is accepted. It must not block and must not throw. May be empty; not called for those that stop() closes.
  std::function<void(const std::string& sender_process, const std::string& connection)> on_connection_end;
  // Why events wait in the spool, for those who are refused because too many do: as "the database is away since …";
  // empty: no reason is known. From several threads; it must not block. May be empty.
  std::function<std::string()> why_events_wait;
};

// An event that is durable, on its way to the recorder.
struct Accepted {
  std::uint64_t seq = 0;  // of its record in the spool
  Event event;
  std::size_t bytes = 0;  // of its record's body
};

// Called on the thread that appends, after the records are durable and before anybody is told so, in the order of
// their sequence numbers, without gaps. It must not block for long and must not throw.
using OnAccepted = std::function<void(std::vector<Accepted>&&)>;

// A snapshot; all numbers count from start().
struct ServerCounters {
  std::uint64_t connections_open = 0;
  std::uint64_t connections_total = 0;  // that became sessions
  std::uint64_t connections_forbidden = 0;
  std::uint64_t connections_over_limit = 0;  // one too many, or no file descriptor left
  std::uint64_t connections_limit = 0;       // as it is in effect
  std::uint64_t connections_reserve = 0;     // beyond it, for those who have few
  std::uint64_t closed_unread = 0;           // closed because the peer did not read its errors
  std::uint64_t lines = 0;                   // blank ones too
  std::uint64_t accepted = 0;
  std::uint64_t excluded = 0;
  std::array<std::uint64_t, 7> refused{};  // lines, by RefusalCode in its order
  std::uint64_t refused_by_spool = 0;      // of these lines, those that it had no room for or could not write
  // Events by type, accepted ones and excluded ones: the first kTypes types seen, all others under "other".
  static constexpr std::size_t kTypes = 64;
  using ByType = std::map<std::string, std::uint64_t, std::less<>>;
  ByType types, excluded_types;

  // From reading an accepted event to handing its acknowledgement to the kernel. Not cumulative; the last counts all
  // longer ones.
  static constexpr std::array<std::chrono::microseconds, 14> kAckBounds{
      std::chrono::microseconds{100},       std::chrono::microseconds{250},      std::chrono::microseconds{500},
      std::chrono::microseconds{1'000},     std::chrono::microseconds{2'500},    std::chrono::microseconds{5'000},
      std::chrono::microseconds{10'000},    std::chrono::microseconds{25'000},   std::chrono::microseconds{50'000},
      std::chrono::microseconds{100'000},   std::chrono::microseconds{250'000},  std::chrono::microseconds{500'000},
      std::chrono::microseconds{1'000'000}, std::chrono::microseconds{5'000'000}};
  std::array<std::uint64_t, kAckBounds.size() + 1> ack_buckets{};
  std::chrono::microseconds ack_sum{};

  // Memory that grows with what peers do.
  std::uint64_t pool_bytes = 0;     // shares of long unfinished lines
  std::uint64_t waiting_bytes = 0;  // handed to the spool, not yet durable
  // The last append failed and so did every event since; empty while the spool takes events.
  std::string spool_failure;
};

class Session;

// What one turn of one session brought.
struct Submission {
  struct Item {
    std::uint64_t line = 0;
    Event event;
    std::string body;
    std::size_t bytes = 0;  // memory of event and body, roughly
  };
  struct Refused {
    std::uint64_t line = 0;
    Refusal refusal;
  };

  std::shared_ptr<Session> session;
  std::uint64_t source = 0;  // the session's number
  std::chrono::steady_clock::time_point received;
  std::vector<Item> items;  // in line order; empty once it is settled
  std::size_t bytes = 0;
  // The outcome: accepted and durable, but for these.
  std::size_t accepted = 0;
  std::vector<Refused> refused;
};
using Submissions = std::vector<std::unique_ptr<Submission>>;

}  // namespace run_recorder
