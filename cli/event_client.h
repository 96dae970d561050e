// The sending end of the event socket: lines go out in order, each stays here until the daemon has settled it, and is
// sent again over a new connection when one breaks (lines carry ids, so a line that did arrive changes nothing).
// Never blocks: the owner polls fd() and calls work(). One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace run_recorder {

struct EventRefusal {
  std::string code;
  std::string message;
};
std::string to_string(const EventRefusal& refusal);
// The daemon may take it later.
bool worth_resending(const EventRefusal& refusal);

struct EventClientOptions {
  std::string path;
  bool retry_refused = true;  // send again what was refused with spool_full or unavailable
  std::chrono::milliseconds longest_pause{2'000};
};

class EventClient {
 public:
  using Clock = std::chrono::steady_clock;

  explicit EventClient(EventClientOptions options) : options_(std::move(options)) {}

  struct Settled {
    std::uint64_t tag = 0;
    std::optional<EventRefusal> refusal;  // empty: acknowledged
  };

  // Queues a line (without newline); tag is the owner's name for it.
  void add(std::uint64_t tag, std::string line);
  // Connects when that is due, writes and reads what is possible now. Returns what was settled by it, in order.
  std::vector<Settled> work(Clock::time_point now);

  struct Waiting {
    std::uint64_t tag = 0;
    std::string line;
    std::optional<EventRefusal> refusal;  // the last answer, where it was one worth trying again
  };
  // Lines not settled yet, in order.
  std::vector<Waiting> waiting() const;
  std::size_t waiting_lines() const { return window_.size() + again_.size(); }
  std::size_t waiting_bytes() const { return waiting_bytes_; }

  bool connected() const { return static_cast<bool>(fd_); }
  // For poll(2); -1 while there is no connection.
  int fd() const { return fd_.get(); }
  short interest() const;
  // When work() is due although nothing happened on fd(); empty: only when something does.
  std::optional<Clock::time_point> wake_at() const;

  // Why there is no connection, or why it makes no progress; empty while all is well.
  const std::string& problem() const { return problem_; }
  // The peer said that this user may not send, or the socket's mode did: trying again is of no use.
  bool forbidden() const { return forbidden_; }
  // The last attempt found no socket, or nobody listening on it.
  bool away() const { return away_; }
  // Attempts come at least this often from now on, and one is due at once.
  void hurry(std::chrono::milliseconds longest_pause);

 private:
  struct Entry {
    std::uint64_t tag = 0;
    std::string line;
    std::optional<EventRefusal> refusal;       // the answer to this sending
    std::optional<EventRefusal> last_refusal;  // the answer to the sending before
    void sent_again();
  };

  void connect(Clock::time_point now);
  void disconnect(Clock::time_point now, std::string problem);
  void pause(Clock::time_point now);
  void fill_output();
  bool write_some();
  bool read_some(std::vector<Settled>& settled);
  bool take_answer(std::string_view answer, std::vector<Settled>& settled);
  void settle_through(std::uint64_t line, std::vector<Settled>& settled);
  void resume_refused(Clock::time_point now);

  EventClientOptions options_;
  UniqueFd fd_;
  std::deque<Entry> window_;  // in order; the first sent_ of them are on their way
  std::deque<Entry> again_;   // refused for now, all older than what is in window_
  std::size_t sent_ = 0;
  std::uint64_t first_line_ = 1;  // the connection's number of window_.front()
  std::size_t waiting_bytes_ = 0;
  std::string output_;
  std::size_t written_ = 0;
  std::string input_;
  std::string problem_;
  bool forbidden_ = false;
  bool away_ = false;
  std::chrono::milliseconds pause_{0};
  std::optional<Clock::time_point> not_before_;  // no attempt, and nothing sent, before then
};

}  // namespace run_recorder
