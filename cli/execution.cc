#include "cli/execution.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "base/uuid.h"
#include "cli/child.h"
#include "cli/event_line.h"
#include "cli/exec_events.h"
#include "cli/exec_reporter.h"
#include "cli/own_place.h"
#include "cli/process_tree.h"
#include "cli/sidecar.h"
#include "cli/signal_relay.h"
#include "cli/stream_relay.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

using Clock = EventClient::Clock;

constexpr std::chrono::milliseconds kLastWait{2'000};
constexpr std::chrono::milliseconds kLastWaitIfStopped{500};
// Between our receiving a signal that is sent to one process of a group after the other, and the last one's.
constexpr std::chrono::milliseconds kWitnessWait{200};

class Execution {
 public:
  Execution(const ExecOptions& options, const EventSocket& socket, const std::string& unsent_folder)
      : options_(options),
        socket_path_(socket.path),
        output_{StreamRelay(options.log_folder.empty() ? -1 : STDOUT_FILENO)},
        reporter_(socket, unsent_folder, errors_.relay) {
    start_.council = options.council ? *options.council : council_of(options.command.front());
    start_.command_text = command_text(options.command, options.record_args);
    start_.input = options.input ? *options.input : command_input(options.command, options.record_args);
    start_.run_id = options.run_id ? *options.run_id : time_ordered_uuid(now_utc());
    start_.attempt = options.attempt;
    start_.oban_job_id = options.oban_job_id;
    start_.parent_attempt_run_id = options.parent_attempt_run_id;
    start_.queue = options.queue;
    start_.job_id = options.job_id;
  }

  int run() {
    AttemptEnd end;
    for (std::uint64_t retry = 0;; ++retry) {
      end = run_attempt();
      if (limit_.term_sent) end.asked_to_stop_by = end_what_is_left(end.asked_to_stop_by);
      if (!worth_retrying(end) || retry == options_.retries) break;
      errors_.relay.complain(fmt::format("{} {}; attempt {} of {} follows in {}", options_.command.front(),
                                         ending_in_words(end), retry + 2, options_.retries + 1,
                                         format_duration(options_.retry_delay)));
      pause_before_retry();
      if (stop_signal_ != 0) {
        end.timed_out_after.reset();
        end.ending.signal = stop_signal_;
        break;
      }
      start_.parent_attempt_run_id = start_.run_id;
      start_.attempt = start_.attempt.value_or(1) + 1;
      start_.run_id = time_ordered_uuid(now_utc());
    }
    finish();
    if (end.timed_out_after) return kExitTimedOut;
    if (end.ending.succeeded() && !succeeded(end)) return kExitOther;
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
    Result<Child> child = start_command();
    if (child) {
      release_standard_streams();
      limit_ = {};
      if (options_.timeout) limit_.due = began + *options_.timeout;
      start_.worker_pid = child->pid();
      report_start();
      end.ending = wait_for_end(*child);
      if (limit_.timed_out) end.timed_out_after = options_.timeout;
      (void)output_.relay.read_last_words();
      end.output_error = output_.relay.failure();
      end.stderr_tail = errors_.relay.read_last_words();
      if (log_) log_->finish();
    } else {
      errors_.relay.complain(child.error().message);
      start_.worker_pid.reset();
      report_start();
      end.ending = {.exit_status = kExitNotExecutable, .start_error = EAGAIN};
    }
    end.run_id = start_.run_id;
    end.event_id = ids_.next();
    end.at = now_utc();
    end.duration = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began);
    end.asked_to_stop_by = stop_signal_;
    end.command = options_.command.front();
    if (child && (end.ending.start_error != 0 || end.output_error != 0))
      errors_.relay.complain(end.command + " " + ending_in_words(end));
    // Before anybody waits for a reader of our standard error.
    reporter_.send(ended_line(end));
    return end;
  }

  // Once the command runs: a user's name may be a while in coming.
  void report_start() {
    if (!started_before_) {
      OwnPlace place = own_place();
      start_.unit = std::move(place.unit);
      start_.user = std::move(place.user);
      start_.cwd = std::move(place.cwd);
    }
    reporter_.send(started_line(start_));
    if (std::exchange(started_before_, true)) return;
    for (const std::string& warning : options_.warnings) errors_.relay.complain(warning);
  }

  Result<Child> start_command() {
    open_log();
    Pipe output;
    Pipe errors;
    for (Pipe* const pipe : {log_ ? &output : nullptr, log_ || options_.tail > 0 ? &errors : nullptr}) {
      if (pipe == nullptr) continue;
      Result<Pipe> made = make_pipe();
      if (!made) return made.error();
      *pipe = std::move(*made);
      ::fcntl(pipe->reading.get(), F_SETFL, O_NONBLOCK);
    }
    errors_.start_sidecar(errors.reading.get(), STDERR_FILENO);
    if (log_) output_.start_sidecar(output.reading.get(), STDOUT_FILENO);
    Result<Child> child = Child::start(
        options_.command, {{"RUN_RECORDER_RUN_ID", start_.run_id}, {"RUN_RECORDER_SOCKET_PATH", socket_path_}},
        output.writing.get(), errors.writing.get(), signals_);
    if (child) {
      errors_.relay.begin(std::move(errors.reading), options_.tail, log_.get());
      output_.relay.begin(std::move(output.reading), 0, log_.get());
    }
    return child;
  }

  // Without one the command runs all the same, as without --log-dir.
  void open_log() {
    log_.reset();
    start_.log.reset();
    if (options_.log_folder.empty()) return;
    Result<RunLog> log = RunLog::create(options_.log_folder, start_.run_id, options_.log_bytes);
    if (!log) return say_log_problem(log.error());
    log_ = std::make_unique<RunLog>(std::move(*log));
    start_.log = log_->path();
  }

  void say_log_problem(const Error& error) {
    if (std::exchange(log_problem_said_, true)) return;
    errors_.relay.complain(
        fmt::format("what the command writes is not logged{}: {}", log_ ? " any more" : "", error.message));
  }

  // Pipes must end where the command closes them, not where we end. A later attempt needs them, though.
  void release_standard_streams() {
    release(STDIN_FILENO);
    if (!log_) release(STDOUT_FILENO);
  }

  void release(int stream) {
    if (options_.retries > 0) return;
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null) ::dup2(null.get(), stream);
  }

  Ending wait_for_end(Child& child) {
    held_.clear();
    while (true) {
      std::optional<Clock::time_point> until = limit_.due;
      if (!held_.empty()) until = until ? std::min(*until, held_.front().due) : held_.front().due;
      wait_for_something(until);
      if (take_signals()) {
        const Child::Change change = child.look();
        if (change.ended) return *change.ended;
        // Ctrl-Z: our caller's job control looks at us. Whoever continues us continues the command too.
        const int stopped_by = change.stopped_by;
        if (stopped_by == SIGTSTP || stopped_by == SIGTTIN || stopped_by == SIGTTOU) pause();
      }
      pass_on_signals(child);
      enforce_limit(child);
    }
  }

  // The command's time stands still meanwhile.
  void pause() {
    const Clock::time_point began = Clock::now();
    ::raise(SIGSTOP);
    if (limit_.due) *limit_.due += Clock::now() - began;
  }

  // When the command's time is over: SIGTERM to it and all that is below it, SIGKILL to what is left of them later.
  void enforce_limit(const Child& child) {
    if (!limit_.due || Clock::now() < *limit_.due) return;
    if (std::exchange(limit_.term_sent, true)) {
      errors_.relay.complain(fmt::format("{} still runs {} later: sending SIGKILL", options_.command.front(),
                                         format_duration(options_.kill_after)));
      limit_.due.reset();
      say_if_unable(kill_all(&child));
      return;
    }
    errors_.relay.complain(fmt::format("{} did not end within {}: sending SIGTERM", options_.command.front(),
                                       format_duration(*options_.timeout)));
    limit_.timed_out = stop_signal_ == 0 || stop_signal_ == SIGHUP;
    limit_.due = Clock::now() + options_.kill_after;
    limit_.below.find(child.pid());
    say_if_unable(child.send(SIGTERM));
    limit_.below.send(SIGTERM);
    // What is stopped would not act on it.
    child.send(SIGCONT);
    limit_.below.send(SIGCONT);
  }

  // Nobody who is stopped starts anything more. child: null where it has ended.
  int kill_all(const Child* child) {
    const auto root = child != nullptr ? std::optional(child->pid()) : std::nullopt;
    do {
      if (child != nullptr) child->send(SIGSTOP);
      limit_.below.send(SIGSTOP);
    } while (limit_.below.find(root));
    limit_.below.send(SIGKILL);
    return child != nullptr ? child->send(SIGKILL) : 0;
  }

  void say_if_unable(int error) {
    if (error != 0) errors_.relay.complain("it cannot be signalled, and is waited for: " + errno_words(error));
  }

  // The command has ended after SIGTERM: what was below it has until SIGKILL, or until exec is asked to stop. Returns
  // the signal of that, or else the one before.
  int end_what_is_left(int asked_to_stop_by) {
    stop_signal_ = 0;
    wait_until(limit_.due.value_or(Clock::now()), [&] { return limit_.below.all_ended() || stop_signal_ != 0; });
    if (!limit_.below.all_ended()) kill_all(nullptr);
    limit_ = {};
    return stop_signal_ != 0 ? stop_signal_ : asked_to_stop_by;
  }

  // True where a child has changed.
  bool take_signals() {
    bool child_changed = false;
    for (const SignalRelay::Arrival& arrival : signals_.arrivals()) {
      child_changed = child_changed || arrival.signal == SIGCHLD;
      if (arrival.signal == SIGCHLD) continue;
      if (asks_to_stop(arrival.signal)) stop_signal_ = arrival.signal;
      held_.push_back({arrival.signal, arrival.from_terminal, Clock::now() + kWitnessWait});
    }
    return child_changed;
  }

  // What was sent to our whole process group or control group has reached the command too, and is not sent twice.
  // Those who send it to one process after the other have done so when it is due.
  void pass_on_signals(const Child& child) {
    if (held_.empty()) return;
    for (; !held_.empty() && held_.front().due <= Clock::now(); held_.pop_front()) {
      const HeldSignal& held = held_.front();
      if (held.from_terminal || child.has_received(held.signal, errors_.sidecar.has_received(held.signal))) continue;
      child.send(held.signal);
    }
    if (held_.empty()) {
      errors_.sidecar.forget_signals();
      output_.sidecar.forget_signals();
    }
  }

  // Lets everything move until something has happened.
  void wait_for_something(std::optional<Clock::time_point> until) {
    std::optional<Clock::time_point> wake = reporter_.wake_at();
    if (until) wake = wake ? std::min(*wake, *until) : until;
    int timeout_ms = -1;
    if (wake) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(std::max(*wake, Clock::now()) - Clock::now());
      timeout_ms = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
    }
    pollfd all[] = {{signals_.fd(), POLLIN, 0},
                    reporter_.polled(),
                    {output_.relay.reading_fd(), POLLIN, 0},
                    {output_.relay.writing_fd(), POLLOUT, 0},
                    {errors_.relay.reading_fd(), POLLIN, 0},
                    {errors_.relay.writing_fd(), POLLOUT, 0},
                    limit_.below.polled()};
    ::poll(all, std::size(all), timeout_ms);
    output_.work();
    errors_.work();
    if (log_) {
      output_.relay.log_unfinished_line();
      errors_.relay.log_unfinished_line();
      if (const std::optional<Error> problem = log_->take_problem()) say_log_problem(*problem);
      if (output_.relay.ended() && output_.relay.written()) release_output();
    }
    reporter_.work();
  }

  // The command, and all that have it from there, have closed their standard output.
  void release_output() {
    if (std::exchange(output_.left, true)) return;
    output_.sidecar.dismiss();
    release(STDOUT_FILENO);
  }

  // While no command runs: lets everything move until there is nothing to wait for any more.
  template <class Done>
  void wait_until(std::optional<Clock::time_point> deadline, Done done) {
    while (!done() && !(deadline && Clock::now() >= *deadline)) {
      wait_for_something(deadline);
      if (take_signals()) reap_children();
    }
  }

  void pause_before_retry() {
    // In this order on standard error, too: what the command wrote, then what the next one writes.
    wait_until(std::nullopt, [&] { return all_written() || stop_signal_ != 0; });
    output_.leave();
    errors_.leave();
    stop_signal_ = 0;
    wait_until(Clock::now() + options_.retry_delay, [&] { return stop_signal_ != 0; });
  }

  // Waits a little for what is not acknowledged and not written yet, less where asked to stop.
  void finish() {
    Clock::time_point deadline = Clock::now() + kLastWait;
    stop_signal_ = 0;
    reporter_.hurry();
    const auto done = [&] { return reporter_.done() && all_written(); };
    wait_until(deadline, [&] { return done() || stop_signal_ != 0; });
    if (stop_signal_ != 0) deadline = std::min(deadline, Clock::now() + kLastWaitIfStopped);
    wait_until(deadline, done);
    reporter_.leave_unsent(stop_signal_);
    wait_until(deadline, [&] { return all_written(); });
    output_.leave();
    errors_.leave();
  }

  bool all_written() const { return output_.relay.written() && errors_.relay.written(); }

  // A stream of the command that passes through us, and the process that carries it on behind us.
  struct Passage {
    StreamRelay relay;
    Sidecar sidecar = {};
    bool pipe_closed = false;  // also the sidecar's
    bool left = false;

    // The command comes first: where there is no room for a process beside it, it runs without.
    void start_sidecar(int pipe, int stream) {
      Result<Sidecar> started = Sidecar::start(pipe, stream);
      sidecar = started ? std::move(*started) : Sidecar();
      pipe_closed = left = false;
    }

    void work() {
      relay.work();
      if (relay.broken() && !std::exchange(pipe_closed, true)) sidecar.close_pipe();
    }

    // Processes that the command left behind may still write, and whoever reads may be stalled: the sidecar carries
    // that on, so that they do not die of a closed pipe and our caller does not wait for them.
    void leave() {
      const bool others_write = relay.end();
      const std::string rest = relay.take_rest();
      if (std::exchange(left, true)) return;
      if (others_write || !rest.empty()) {
        sidecar.take_over(rest);
      } else {
        sidecar.dismiss();
      }
    }
  };

  struct HeldSignal {
    int signal;
    bool from_terminal;
    Clock::time_point due;
  };

  // What --timeout allows the command that runs.
  struct Limit {
    std::optional<Clock::time_point> due;  // of the next signal
    bool term_sent = false;
    bool timed_out = false;  // rather than that exec was asked to stop before
    ProcessTree below;       // found then
  };

  const ExecOptions& options_;
  const std::string socket_path_;
  SignalRelay signals_;
  Passage output_;  // only with a log
  Passage errors_{StreamRelay(STDERR_FILENO)};
  ExecReporter reporter_;
  std::unique_ptr<RunLog> log_;  // of the attempt
  EventIds ids_;
  AttemptStart start_;
  std::deque<HeldSignal> held_;  // by due
  Limit limit_;
  int stop_signal_ = 0;  // the latest request to stop
  bool log_problem_said_ = false;
  bool started_before_ = false;  // it is a retry
};

}  // namespace

int execute(const ExecOptions& options, const EventSocket& socket, const std::string& unsent_folder) {
  return Execution(options, socket, unsent_folder).run();
}

}  // namespace run_recorder
