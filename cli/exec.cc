#include "cli/exec.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "base/uuid.h"
#include "cli/child.h"
#include "cli/event_client.h"
#include "cli/event_line.h"
#include "cli/exec_events.h"
#include "cli/signal_relay.h"
#include "cli/stderr_relay.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

using Clock = EventClient::Clock;

constexpr std::chrono::milliseconds kLastWait{2'000};
constexpr std::chrono::milliseconds kLongestPause{5'000};
constexpr std::chrono::milliseconds kLongestPauseAtEnd{100};
constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kMaxDepth = 60;
constexpr int kCannotRunStatus = 126;
void require_name(const char* flag, const std::optional<std::string>& value) {
  if (!value) return;
  if (value->empty() || value->size() > kMaxNameBytes || !valid_utf8(*value) ||
      value->find('\0') != std::string::npos) {
    throw StartError(kExitUsage, fmt::format("{} takes 1 to {} bytes of UTF-8", flag, kMaxNameBytes));
  }
}

// What the daemon would refuse is refused before anything runs.
void check(const ExecOptions& options) {
  require_name("--council", options.council);
  require_name("--run-id", options.run_id);
  require_name("--parent", options.parent_attempt_run_id);
  if (options.input && options.record_args) {
    throw StartError(kExitUsage, "--input and --record-args both say what the input is: give one of them");
  }
  if (!options.input) return;
  const JsonScan scan = scan_json(*options.input, kMaxDepth);
  if (scan.problem != JsonProblem::kNone) throw StartError(kExitUsage, "--input: " + scan.message);
}

// Sends the events beside the command, without ever being waited for until the end.
class Reporter {
 public:
  explicit Reporter(const std::string& socket_path)
      : client_({.path = socket_path, .retry_refused = true, .longest_pause = kLongestPause}) {}

  void send(std::string line) {
    client_.add(++sent_, std::move(line));
    work();
  }

  void work() {
    for (const EventClient::Settled& one : client_.work(Clock::now())) {
      if (one.refusal) complain("the daemon refused an event of this run: " + printable(to_string(*one.refusal)));
    }
    if (client_.away() || client_.forbidden()) say_away();
  }

  pollfd polled() const { return {client_.fd(), client_.interest(), 0}; }
  std::optional<Clock::time_point> wake_at() const { return client_.wake_at(); }

  // Waits a little for what is not acknowledged, unless asked to stop; what is left then is printed, so that nothing
  // is lost.
  void finish(SignalRelay& signals) {
    const Clock::time_point deadline = Clock::now() + kLastWait;
    client_.hurry(kLongestPauseAtEnd);
    while (true) {
      work();
      if (client_.waiting_lines() == 0) return;
      const Clock::time_point now = Clock::now();
      if (client_.forbidden() || now >= deadline) break;
      const Clock::time_point until = std::min(deadline, client_.wake_at().value_or(deadline));
      const auto pause = std::chrono::ceil<std::chrono::milliseconds>(std::max(until - now, Clock::duration(0)));
      pollfd all[2] = {polled(), {signals.fd(), POLLIN, 0}};
      ::poll(all, 2, static_cast<int>(pause.count()));
      const std::vector<SignalRelay::Arrival> arrivals = signals.arrivals();
      if (std::any_of(arrivals.begin(), arrivals.end(), [](const auto& a) { return asks_to_stop(a.signal); })) break;
    }
    print_unsent();
  }

 private:
  void say_away() {
    if (std::exchange(said_, true)) return;
    complain(printable(client_.problem()) +
             "; the command runs all the same, and events that cannot be sent until its "
             "end are printed here, for run-recorder emit");
  }

  void print_unsent() {
    if (!said_) {
      complain(client_.problem().empty()
                   ? "the daemon does not answer; the events not acknowledged, for run-recorder emit:"
                   : printable(client_.problem()) + "; the events not acknowledged, for run-recorder emit:");
    }
    std::string lines;
    for (const EventClient::Waiting& one : client_.waiting()) lines += one.line + "\n";
    // The same JSON; what the command wrote last is in it.
    (void)write_all(STDERR_FILENO, ::isatty(STDERR_FILENO) == 1 ? printable_json(lines) : lines);
  }

  EventClient client_;
  std::uint64_t sent_ = 0;
  bool said_ = false;
};

class Execution {
 public:
  Execution(const ExecOptions& options, const std::string& socket_path)
      : options_(options), socket_path_(socket_path), reporter_(socket_path) {
    start_.council = options.council ? *options.council : council_of(options.command.front());
    start_.input = options.input ? *options.input : command_input(options.command, options.record_args);
    start_.run_id = options.run_id ? *options.run_id : time_ordered_uuid(now_utc());
    start_.attempt = options.attempt;
    start_.oban_job_id = options.oban_job_id;
    start_.parent_attempt_run_id = options.parent_attempt_run_id;
  }

  int run() {
    AttemptEnd end;
    for (std::uint64_t retry = 0;; ++retry) {
      end = run_attempt();
      if (end.ending.succeeded() || end.ending.start_error != 0 || was_cancelled(end) || retry == options_.retries)
        break;
      complain(fmt::format("{} {}; attempt {} of {} follows in {}", options_.command.front(),
                           ending_in_words(end.ending), retry + 2, options_.retries + 1,
                           format_duration(options_.retry_delay)));
      pause_before_retry();
      if (stop_signal_ != 0) {
        end.ending.signal = stop_signal_;
        break;
      }
      start_.parent_attempt_run_id = start_.run_id;
      start_.attempt = start_.attempt.value_or(1) + 1;
      start_.run_id = time_ordered_uuid(now_utc());
    }
    reporter_.finish(signals_);
    if (end.ending.signal == 0) return end.ending.exit_status;
    signals_.die_by(end.ending.signal);
    return 128 + end.ending.signal;
  }

 private:
  AttemptEnd run_attempt() {
    stop_signal_ = 0;
    start_.at = now_utc();
    start_.event_id = ids_.next();
    const Clock::time_point began = Clock::now();
    AttemptEnd end;
    Result<Child> child = Child::start(
        options_.command, {{"RUN_RECORDER_RUN_ID", start_.run_id}, {"RUN_RECORDER_SOCKET_PATH", socket_path_}},
        options_.tail > 0, signals_);
    if (child) {
      release_standard_streams();
      start_.worker_pid = child->pid();
      reporter_.send(started_line(start_));
      StderrRelay relay(std::move(child->stderr_pipe()), options_.tail);
      end.ending = wait_for_end(*child, relay);
      drain(relay);
      end.stderr_tail = relay.tail().lines();
    } else {
      complain(child.error().message);
      start_.worker_pid.reset();
      reporter_.send(started_line(start_));
      end.ending = {.exit_status = kCannotRunStatus, .start_error = EAGAIN};
    }
    end.run_id = start_.run_id;
    end.event_id = ids_.next();
    end.at = now_utc();
    end.duration = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began);
    end.asked_to_stop_by = stop_signal_;
    end.command = options_.command.front();
    if (child && end.ending.start_error != 0) complain(end.command + " " + ending_in_words(end.ending));
    reporter_.send(ended_line(end));
    return end;
  }

  // Pipes must end where the command closes them, not where we end. A later attempt needs them, though.
  void release_standard_streams() {
    if (options_.retries > 0) return;
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null) return;
    ::dup2(null.get(), STDIN_FILENO);
    ::dup2(null.get(), STDOUT_FILENO);
  }

  Ending wait_for_end(Child& child, StderrRelay& relay) {
    while (true) {
      wait_for_something(&relay, std::nullopt);
      bool child_changed = false;
      for (const SignalRelay::Arrival& arrival : signals_.arrivals()) {
        child_changed = child_changed || arrival.signal == SIGCHLD;
        if (arrival.signal == SIGCHLD) continue;
        if (asks_to_stop(arrival.signal)) stop_signal_ = arrival.signal;
        if (!arrival.from_terminal) child.send(arrival.signal);
      }
      if (!child_changed) continue;
      const Child::Change change = child.look();
      if (change.ended) return *change.ended;
      // Ctrl-Z: our caller's job control looks at us. Whoever continues us continues the command too.
      const int stopped_by = change.stopped_by;
      if (stopped_by == SIGTSTP || stopped_by == SIGTTIN || stopped_by == SIGTTOU) ::raise(SIGSTOP);
    }
  }

  // Lets everything move until something has happened.
  void wait_for_something(StderrRelay* relay, std::optional<Clock::time_point> until) {
    std::optional<Clock::time_point> wake = reporter_.wake_at();
    if (until) wake = wake ? std::min(*wake, *until) : until;
    int timeout_ms = -1;
    if (wake) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(std::max(*wake, Clock::now()) - Clock::now());
      timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
    }
    pollfd all[4] = {{signals_.fd(), POLLIN, 0},
                     reporter_.polled(),
                     {relay != nullptr ? relay->reading_fd() : -1, POLLIN, 0},
                     {relay != nullptr ? relay->writing_fd() : -1, POLLOUT, 0}};
    ::poll(all, 4, timeout_ms);
    if (relay != nullptr) relay->work();
    reporter_.work();
  }

  // Writes out what the command wrote, unless our standard error stalls and somebody wants us to stop.
  void drain(StderrRelay& relay) {
    relay.read_last_words();
    while (!relay.written() && stop_signal_ == 0 && !asked_to_stop()) wait_for_something(&relay, std::nullopt);
    relay.hand_over();
  }
  // Whoever asks us to stop does not want to wait for a reader of our standard error.
  bool asked_to_stop() {
    const std::vector<SignalRelay::Arrival> arrivals = signals_.arrivals();
    return std::any_of(arrivals.begin(), arrivals.end(), [](const auto& a) { return asks_to_stop(a.signal); });
  }

  void pause_before_retry() {
    stop_signal_ = 0;
    const Clock::time_point until = Clock::now() + options_.retry_delay;
    while (Clock::now() < until && stop_signal_ == 0) {
      wait_for_something(nullptr, until);
      for (const SignalRelay::Arrival& arrival : signals_.arrivals()) {
        if (asks_to_stop(arrival.signal)) stop_signal_ = arrival.signal;
      }
    }
  }

  const ExecOptions& options_;
  const std::string socket_path_;
  SignalRelay signals_;
  Reporter reporter_;
  EventIds ids_;
  AttemptStart start_;
  int stop_signal_ = 0;  // the latest request to stop
};

}  // namespace

int run_exec(const ExecOptions& options, const std::string& socket_path) {
  check(options);
  return Execution(options, socket_path).run();
}

}  // namespace run_recorder
