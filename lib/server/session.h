// One connection of a worker: reads lines, hands events to the spool's writer, answers. A coroutine reads; answers
// are written as soon as there are any, and by a second coroutine only while the kernel has no room for them, so a
// peer that does not read is never waited for. An idle session waits for its socket to be readable and holds no
// buffer.
//
// All of it belongs to the thread that runs SessionContext::io.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/access.h"
#include "server/answers.h"
#include "server/line_framer.h"
#include "server/session_context.h"
#include "server/types.h"

namespace run_recorder {

class Session : public std::enable_shared_from_this<Session> {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;

  Session(SessionContext& context, Socket socket, std::uint64_t number, const Peer& peer);

  // Spawns the coroutine, which keeps the session alive until it ends.
  void start();

  // The writer has settled the oldest submission.
  void settle(const Submission& submission);

  // Reads nothing more; ends when all that was read is settled and answered.
  void stop_reading();
  // Reads nothing more, settles and answers what was read, then ends with this error; at once where the peer does not
  // read for a while. False: it is on its way out already.
  bool evict(Refusal why);
  // At once, whatever is left.
  void close();
  // Who was at the other end when it connected: the kernel is asked, for the groups are not kept.
  Peer ask_peer();
  // The same, without groups.
  Peer peer() const { return {peer_uid_, peer_pid_, {}}; }
  const std::string& sender_process() const { return sender_.identity; }
  const std::string& connection() const { return connection_; }
  // Looks again whether it may go on.
  void wake();

  // The unfinished line did not grow for too long.
  void refuse_stalled();
  bool holds_share() const { return framer_.holds_share(); }
  bool waits_for_pool() const { return waits_for_pool_; }
  std::chrono::steady_clock::time_point last_progress() const { return last_progress_; }

  // For ReadBarrier.
  int descriptor() { return socket_.native_handle(); }
  bool reads() const { return reading_; }
  std::uint64_t bytes_read() const { return bytes_read_; }                  // of its input
  std::uint64_t bytes_taken() const { return bytes_read_ - rest_.size(); }  // and cut into lines
  std::uint64_t lines() const { return lines_; }
  // Every line up to this one is durable, or refused.
  bool has_settled(std::uint64_t line) const { return in_flight_.empty() || in_flight_.front().first_line > line; }

  // For LineFramer::feed.
  bool line(std::string_view text);
  bool too_large();
  bool no_room();

 private:
  struct InFlight {
    std::uint64_t first_line;
    std::size_t bytes;
  };

  static boost::asio::awaitable<void> run(std::shared_ptr<Session> self);
  static boost::asio::awaitable<void> write_rest(std::shared_ptr<Session> self);
  boost::asio::awaitable<void> changed();

  bool may_read();
  bool ends_now() const;
  bool waits_for_peer() const;
  bool answered() const;
  void take_turn();
  std::string_view receive();
  void accept(Event event, std::string_view text);
  void hand_over();
  bool refuse(const Refusal& refusal);
  void answer();
  void flush();
  void count_unread();

  SessionContext& context_;
  Socket socket_;
  boost::asio::steady_timer wake_;
  const std::string connection_;
  const std::uint64_t number_;
  const std::optional<std::uint32_t> peer_uid_;
  const std::optional<std::int32_t> peer_pid_;
  const Sender sender_;

  // Reading.
  LineFramer framer_;
  std::string rest_;  // read, but not looked at yet: its errors wait for the peer
  std::uint64_t bytes_read_ = 0;
  bool reading_ = true;
  bool more_ = false;  // the last read took all it could; there is probably more
  bool waits_for_pool_ = false;
  std::uint64_t lines_ = 0;
  std::uint64_t counted_lines_ = 0;  // in the counters
  std::chrono::steady_clock::time_point last_progress_{};
  Timestamp received_at_{};
  std::unique_ptr<Submission> draft_;  // of the current turn

  // Settling.
  std::vector<InFlight> in_flight_;  // oldest first
  std::size_t in_flight_bytes_ = 0;

  // Answering.
  Answers answers_;
  bool writing_ = false;       // write_rest runs
  bool write_closed_ = false;  // the peer takes no answers any more; what it sent still counts
  bool closed_ = false;
  std::unique_ptr<const Refusal> eviction_;             // why it ends, where its peer may not send any more
  std::chrono::steady_clock::time_point evict_by_{};    // then: whatever is left
  std::size_t unread_bytes_ = 0;                        // as counted in the context
  std::chrono::steady_clock::time_point last_taken_{};  // the peer took something, or began to owe it
};

}  // namespace run_recorder
