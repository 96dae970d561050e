#include "cli/emission.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <utility>

#include "cli/event_client.h"
#include "cli/stream_relay.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "cli/unsent_events.h"

namespace run_recorder {
namespace {

using Clock = EventClient::Clock;

// What may be on its way at once.
constexpr std::size_t kWindowLines = 4'096;
constexpr std::size_t kWindowBytes = std::size_t{4} << 20;
// Refusals that nobody reads.
constexpr std::size_t kMaxWordsBytes = std::size_t{1} << 20;
// With a daemon that listens and says nothing, where nothing is to be tried again: to acknowledge takes a sync.
constexpr std::chrono::milliseconds kLeastPatience{2'000};
// Looked at again then; more does not fit into poll(2)'s milliseconds.
constexpr std::int64_t kLongestPollMs = 3'600'000;
// The tags of what was kept from earlier; lines are numbered from 1.
constexpr std::uint64_t kKeptTags = std::uint64_t{1} << 62;
constexpr std::chrono::milliseconds kProgressAfter{1'000};
constexpr std::chrono::milliseconds kProgressEvery{500};

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

class Emission {
 public:
  Emission(const EmissionOptions& options, EventSource& source)
      : options_(options),
        source_(source),
        client_({.path = options.socket.path, .retry_refused = options.wait.count() > 0}),
        unsent_(options.unsent_folder, options.socket),
        started_(Clock::now()),
        progress_(started_) {}

  int run() {
    for (const std::string& warning : options_.warnings) words_.complain(warning);
    const int status = send_all();
    unsent_.release();
    // Whoever reads our standard error may take as long as they like: everything is sent.
    while (!words_.written()) {
      pollfd polled{words_.writing_fd(), POLLOUT, 0};
      ::poll(&polled, 1, -1);
      words_.work();
    }
    return status;
  }

 private:
  int send_all() {
    while (true) {
      take_lines();
      settle(client_.work(Clock::now()));
      if (source_.ended() && waiting_ == 0) break;
      if (hopeless()) return give_up();
      draw_progress(false);
      wait_for_something();
    }
    draw_progress(true);
    if (refused_ > 0 && options_.names_lines) {
      words_.complain(
          fmt::format("{} acknowledged, {} refused", count_of(acknowledged_, "event"), with_separators(refused_)));
    }
    return refused_ > 0 || read_failed_ ? kExitOther : kExitDone;
  }

  bool has_room() const {
    return client_.waiting_lines() < kWindowLines && client_.waiting_bytes() < kWindowBytes &&
           words_.waiting_bytes() < kMaxWordsBytes;
  }

  void take_lines() {
    const bool was_idle = waiting_ == 0;
    lines_left_ = true;
    while (has_room()) {
      std::optional<EventSource::Item> item = source_.next();
      if (!item) {
        lines_left_ = false;
        break;
      }
      if (item->too_long) {
        refuse(item->number, {"too_large", fmt::format("the line has more than {} bytes", kMaxEmittedBytes)});
      } else if (!is_blank(item->text)) {
        send_kept();
        ++waiting_;
        client_.add(item->number, completed_line(item->text, options_.completion, ids_));
      }
    }
    // Patience is counted only while something waits.
    if (was_idle) progress_ = Clock::now();
  }

  // Before the first event of our own.
  void send_kept() {
    if (std::exchange(kept_sent_, true)) return;
    std::uint64_t tag = kKeptTags;
    for (const std::string& line : unsent_.take()) client_.add(tag++, line);
  }

  void settle_kept(const EventClient::Settled& one) {
    const auto line = static_cast<std::size_t>(one.tag - kKeptTags);
    if (!one.refusal) {
      unsent_.acknowledged(line);
    } else if (!worth_resending(*one.refusal)) {
      clear_progress();
      words_.complain(set_aside_in_words(unsent_, line, *one.refusal));
    }
    if (unsent_.all_settled()) unsent_.release();
  }

  void refuse(std::uint64_t number, const EventRefusal& refusal) {
    ++refused_;
    clear_progress();
    words_.complain(options_.names_lines ? fmt::format("line {}: {}", number, printable(to_string(refusal)))
                                         : "refused: " + printable(to_string(refusal)));
  }

  void settle(const std::vector<EventClient::Settled>& settled) {
    for (const EventClient::Settled& one : settled) {
      if (one.tag >= kKeptTags) {
        settle_kept(one);
        continue;
      }
      --waiting_;
      if (one.refusal) {
        refuse(one.tag, *one.refusal);
      } else {
        ++acknowledged_;
      }
    }
    if (!settled.empty()) progress_ = Clock::now();
    if (client_.connected()) was_connected_ = true;
  }

  // A daemon that is not there at the beginning is an answer; one that goes away in the middle may be restarting.
  bool hopeless() const {
    if (client_.forbidden()) return true;
    if (waiting_ == 0) return false;
    if (client_.away() && !was_connected_ && !options_.wait_for_start) return true;
    return Clock::now() >= gives_up_at();
  }
  Clock::time_point gives_up_at() const {
    const bool listening = client_.connected() && client_.problem().empty();
    return progress_ + (listening && options_.wait.count() == 0 ? kLeastPatience : options_.wait);
  }

  int give_up() {
    clear_progress();
    std::vector<EventClient::Waiting> waiting = client_.waiting();
    std::erase_if(waiting, [](const EventClient::Waiting& one) { return one.tag >= kKeptTags; });
    std::uint64_t unanswered = 0;
    bool refused_now = false;
    for (const EventClient::Waiting& one : waiting) {
      if (one.refusal && client_.connected()) {
        refuse(one.tag, *one.refusal);
        refused_now = true;
      } else {
        ++unanswered;
      }
    }
    if (unanswered > 0) {
      words_.complain(client_.problem().empty()
                          ? fmt::format("the daemon has not answered for {}",
                                        duration_in_words(std::chrono::duration_cast<std::chrono::milliseconds>(
                                            Clock::now() - progress_)))
                          : printable(client_.problem()));
    }
    if (options_.names_lines && !waiting.empty()) {
      words_.complain(
          fmt::format("{} acknowledged, {} refused; stopped: line {} and what follows it was not acknowledged",
                      count_of(acknowledged_, "event"), with_separators(refused_), waiting.front().tag));
    }
    // What waits behind a refused line was not sent: a daemon that refuses is there.
    return client_.forbidden() || refused_now || unanswered == 0 ? kExitOther : kExitNotThere;
  }

  void wait_for_something() {
    if (lines_left_ && has_room()) return;  // one reading of answers made room
    pollfd polled[3] = {{client_.fd(), client_.interest(), 0},
                        {has_room() ? source_.fd() : -1, POLLIN, 0},
                        {words_.writing_fd(), POLLOUT, 0}};
    const int ready = ::poll(polled, 3, timeout_ms());
    words_.work();
    if (ready <= 0 || polled[1].revents == 0) return;
    const Result<void> read = source_.read();
    if (read) return;
    // What was taken from it is still settled.
    read_failed_ = true;
    clear_progress();
    words_.complain(read.error().message);
  }

  int timeout_ms() const {
    const Clock::time_point now = Clock::now();
    std::optional<Clock::time_point> at = client_.wake_at();
    const auto sooner = [&](Clock::time_point other) { at = at ? std::min(*at, other) : other; };
    if (waiting_ > 0) sooner(gives_up_at());
    if (options_.how_far) sooner(std::max(drawn_ + kProgressEvery, started_ + kProgressAfter));
    if (!at) return -1;
    if (*at <= now) return 0;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*at - now);
    return static_cast<int>(std::min<std::int64_t>(left.count(), kLongestPollMs));
  }

  void draw_progress(bool last) {
    const Clock::time_point now = Clock::now();
    if (!words_.written()) return;
    if (!options_.how_far || now - started_ < kProgressAfter || (!last && now - drawn_ < kProgressEvery)) return;
    drawn_ = now;
    const std::string line = fmt::format("\r\033[K{}{} acknowledged, {} refused", options_.how_far(),
                                         count_of(acknowledged_, "event"), with_separators(refused_));
    words_.write(last ? line + "\n" : line);
    progress_shown_ = !last;
  }
  void clear_progress() {
    if (std::exchange(progress_shown_, false)) words_.write("\r\033[K");
  }

  const EmissionOptions& options_;
  EventSource& source_;
  EventClient client_;
  UnsentEvents unsent_;
  StreamRelay words_{STDERR_FILENO};
  EventIds ids_;
  Clock::time_point started_;
  Clock::time_point progress_;  // when something was settled last
  Clock::time_point drawn_{};
  std::uint64_t acknowledged_ = 0;
  std::uint64_t refused_ = 0;
  std::uint64_t waiting_ = 0;  // of our own
  bool kept_sent_ = false;
  bool was_connected_ = false;
  bool lines_left_ = false;  // read, and not taken for want of room
  bool progress_shown_ = false;
  bool read_failed_ = false;
};

}  // namespace

int send_events(const EmissionOptions& options, EventSource& source) {
  return Emission(options, source).run();
}

}  // namespace run_recorder
