#include "cli/emit.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <functional>
#include <memory>

#include "cli/caller.h"
#include "cli/command.h"
#include "cli/event_client.h"
#include "cli/event_line.h"
#include "cli/line_reader.h"
#include "cli/stderr_relay.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

using Clock = EventClient::Clock;

// The daemon shares as much among all long lines.
constexpr std::size_t kMaxLineBytes = std::size_t{16} << 20;
// What may be on its way at once.
constexpr std::size_t kWindowLines = 4'096;
constexpr std::size_t kWindowBytes = std::size_t{4} << 20;
constexpr std::size_t kMaxDepth = 1'000;
// Refusals that nobody reads.
constexpr std::size_t kMaxWordsBytes = std::size_t{1} << 20;
// With a daemon that listens and says nothing, where nothing is to be tried again: to acknowledge takes a sync.
constexpr std::chrono::milliseconds kLeastPatience{2'000};
constexpr std::chrono::milliseconds kProgressAfter{1'000};
constexpr std::chrono::milliseconds kProgressEvery{500};

[[noreturn]] void usage(const std::string& message) {
  throw StartError(kExitUsage, message);
}

void require_json(const char* flag, const std::optional<std::string>& value) {
  if (!value) return;
  const JsonScan scan = scan_json(*value, kMaxDepth);
  if (scan.problem == JsonProblem::kMalformed) usage(fmt::format("{} is not JSON: {}", flag, scan.message));
}

void require_utf8(const char* flag, const std::optional<std::string>& value) {
  if (value && !valid_utf8(*value)) usage(fmt::format("{} is not valid UTF-8", flag));
}

// "3/10" as the object that it stands for; else as it is.
std::string progress_object(const std::string& text) {
  const std::size_t slash = text.find('/');
  const std::string done = text.substr(0, slash), total = slash == std::string::npos ? "" : text.substr(slash + 1);
  const JsonScan of_done = scan_json(done, 1), of_total = scan_json(total, 1);
  const auto is_number = [](const JsonScan& scan) {
    return scan.problem == JsonProblem::kNone && scan.type == JsonType::kNumber;
  };
  if (!is_number(of_done) || !is_number(of_total)) return text;
  return EventLine().json("done", done).json("total", total).str();
}

std::int64_t seconds_of(const std::string& text) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc() && end == text.data() + text.size()) return seconds;
  const std::optional<std::chrono::milliseconds> duration = parse_duration(text);
  if (!duration || duration->count() % 1'000 != 0) {
    usage(fmt::format("--expires-in takes seconds, or a duration of whole seconds such as 90s or 5m, not {}", text));
  }
  return duration->count() / 1'000;
}

void check_one_event(const EmitOptions& options) {
  if (!options.type || !options.run_id) {
    usage("one event needs --type and --run-id; without any field the events are read from standard input");
  }
  require_utf8("--type", options.type);
  require_utf8("--run-id", options.run_id);
  require_utf8("--id", options.id);
  require_utf8("--at", options.at);
  require_utf8("--council", options.council);
  require_utf8("--parent-attempt-run-id", options.parent_attempt_run_id);
  require_utf8("--queue", options.queue);
  require_utf8("--job-id", options.job_id);
  require_utf8("--job-state", options.job_state);
  require_utf8("--message", options.message);
  require_json("--input", options.input);
  require_json("--result", options.result);
  require_json("--errors", options.errors);
  require_json("--usage", options.usage);
  if (options.progress) require_json("--progress", progress_object(*options.progress));
  require_json("--payload", options.payload);
}

std::string line_of(const EmitOptions& options) {
  EventLine line;
  const auto text = [&](const char* key, const std::optional<std::string>& value) {
    if (value) line.text(key, *value);
  };
  const auto json = [&](const char* key, const std::optional<std::string>& value) {
    if (value) line.json(key, *value);
  };
  const auto number = [&](const char* key, const std::optional<std::int64_t>& value) {
    if (value) line.number(key, *value);
  };
  text("type", options.type);
  text("run_id", options.run_id);
  text("id", options.id);
  text("at", options.at);
  text("council", options.council);
  number("attempt", options.attempt);
  text("parent_attempt_run_id", options.parent_attempt_run_id);
  number("oban_job_id", options.oban_job_id);
  text("queue", options.queue);
  text("job_id", options.job_id);
  if (options.expires_in) line.number("expires_in", seconds_of(*options.expires_in));
  text("job_state", options.job_state);
  text("message", options.message);
  json("input", options.input);
  json("result", options.result);
  json("errors", options.errors);
  json("usage", options.usage);
  if (options.progress) line.json("progress", progress_object(*options.progress));
  json("payload", options.payload);
  number("worker_pid", options.worker_pid);
  return line.str();
}

Completion completion_of(const EmitOptions& options) {
  Completion completion;
  if (options.worker_pid) {
    completion.worker_pid = options.worker_pid;
  } else if (!options.no_worker_pid) {
    completion.worker_pid = lasting_caller(read_callers());
    completion.worker_is_guessed = true;
    completion.vouched_run_id = options.vouched_run_id;
  }
  return completion;
}

// Where the events come from.
class EventSource {
 public:
  virtual ~EventSource() = default;
  struct Item {
    std::uint64_t number = 0;
    std::string text;
    bool too_long = false;
  };
  virtual std::optional<Item> next() = 0;
  virtual int fd() const = 0;  // to poll for more; -1: nothing more will come
  virtual Result<void> read() = 0;
  virtual bool ended() const = 0;
};

class OneEvent : public EventSource {
 public:
  explicit OneEvent(std::string line) : line_(std::move(line)) {}
  std::optional<Item> next() override {
    if (!line_) return std::nullopt;
    Item item{1, std::move(*line_), false};
    line_.reset();
    return item;
  }
  int fd() const override { return -1; }
  Result<void> read() override { return {}; }
  bool ended() const override { return !line_; }

 private:
  std::optional<std::string> line_;
};

class StandardInput : public EventSource {
 public:
  std::optional<Item> next() override {
    std::optional<LineReader::Line> line = reader_.next();
    if (!line) return std::nullopt;
    return Item{line->number, std::move(line->text), line->too_long};
  }
  int fd() const override { return reader_.wants_input() ? STDIN_FILENO : -1; }
  Result<void> read() override { return reader_.read(); }
  bool ended() const override { return reader_.ended(); }
  std::uint64_t bytes_read() const { return reader_.bytes_read(); }

 private:
  LineReader reader_{STDIN_FILENO, kMaxLineBytes};
};

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

class Emission {
 public:
  Emission(const EmitOptions& options, const std::string& socket_path, EventSource& source)
      : options_(options),
        source_(source),
        client_({.path = socket_path, .retry_refused = options.wait.count() > 0}),
        completion_(completion_of(options)),
        started_(Clock::now()),
        progress_(started_) {}
  // Where it is not one event, refusals name their lines.
  void name_lines() { names_lines_ = true; }
  void show_progress(std::function<std::string()> how_far) { how_far_ = std::move(how_far); }

  int run() {
    for (const std::string& warning : options_.warnings) words_.complain(warning);
    const int status = send_all();
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
      if (source_.ended() && client_.waiting_lines() == 0) break;
      if (hopeless()) return give_up();
      draw_progress(false);
      wait_for_something();
    }
    draw_progress(true);
    if (refused_ > 0 && names_lines_) {
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
    const bool was_idle = client_.waiting_lines() == 0;
    lines_left_ = true;
    while (has_room()) {
      std::optional<EventSource::Item> item = source_.next();
      if (!item) {
        lines_left_ = false;
        break;
      }
      if (item->too_long) {
        refuse(item->number, {"too_large", fmt::format("the line has more than {} bytes", kMaxLineBytes)});
      } else if (!is_blank(item->text)) {
        client_.add(item->number, completed_line(item->text, completion_, ids_));
      }
    }
    // Patience is counted only while something waits.
    if (was_idle) progress_ = Clock::now();
  }

  void refuse(std::uint64_t number, const EventRefusal& refusal) {
    ++refused_;
    clear_progress();
    words_.complain(names_lines_ ? fmt::format("line {}: {}", number, printable(to_string(refusal)))
                                 : "refused: " + printable(to_string(refusal)));
  }

  void settle(const std::vector<EventClient::Settled>& settled) {
    for (const EventClient::Settled& one : settled) {
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
    if (client_.waiting_lines() == 0) return false;
    if (client_.away() && !was_connected_) return true;
    return Clock::now() >= gives_up_at();
  }
  Clock::time_point gives_up_at() const {
    const bool listening = client_.connected() && client_.problem().empty();
    return progress_ + (listening && options_.wait.count() == 0 ? kLeastPatience : options_.wait);
  }

  int give_up() {
    clear_progress();
    const std::vector<EventClient::Waiting> waiting = client_.waiting();
    std::uint64_t unanswered = 0;
    for (const EventClient::Waiting& one : waiting) {
      if (one.refusal && client_.connected()) {
        refuse(one.tag, *one.refusal);
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
    if (names_lines_ && !waiting.empty()) {
      words_.complain(
          fmt::format("{} acknowledged, {} refused; stopped: line {} and what follows it was not acknowledged",
                      count_of(acknowledged_, "event"), with_separators(refused_), waiting.front().tag));
    }
    return client_.forbidden() || unanswered == 0 ? kExitOther : kExitNotThere;
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
    if (client_.waiting_lines() > 0) sooner(gives_up_at());
    if (how_far_) sooner(std::max(drawn_ + kProgressEvery, started_ + kProgressAfter));
    if (!at) return -1;
    if (*at <= now) return 0;
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(*at - now).count());
  }

  void draw_progress(bool last) {
    const Clock::time_point now = Clock::now();
    if (!words_.written()) return;
    if (!how_far_ || now - started_ < kProgressAfter || (!last && now - drawn_ < kProgressEvery)) return;
    drawn_ = now;
    const std::string line = fmt::format("\r\033[K{}{} acknowledged, {} refused", how_far_(),
                                         count_of(acknowledged_, "event"), with_separators(refused_));
    words_.write(last ? line + "\n" : line);
    progress_shown_ = !last;
  }
  void clear_progress() {
    if (std::exchange(progress_shown_, false)) words_.write("\r\033[K");
  }

  const EmitOptions& options_;
  EventSource& source_;
  EventClient client_;
  StderrRelay words_;
  EventIds ids_;
  Completion completion_;
  Clock::time_point started_;
  Clock::time_point progress_;  // when something was settled last
  Clock::time_point drawn_{};
  std::function<std::string()> how_far_;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t refused_ = 0;
  bool was_connected_ = false;
  bool lines_left_ = false;  // read, and not taken for want of room
  bool names_lines_ = false;
  bool progress_shown_ = false;
  bool read_failed_ = false;
};

// "42% of it read, " where standard input is a file, so that its size is known.
std::string part_read(const StandardInput& input) {
  struct stat status {};
  if (::fstat(STDIN_FILENO, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) return {};
  return fmt::format("{}% read, ", std::min<std::uint64_t>(
                                       100, input.bytes_read() * 100 / static_cast<std::uint64_t>(status.st_size)));
}

}  // namespace

int run_emit(const EmitOptions& options, const std::string& socket_path) {
  // Words that nobody reads any more shall not keep events from being sent.
  std::signal(SIGPIPE, SIG_IGN);
  if (options.one_event()) {
    check_one_event(options);
    OneEvent source(line_of(options));
    return Emission(options, socket_path, source).run();
  }
  if (::isatty(STDIN_FILENO) == 1) {
    usage("no event: give --type and --run-id, or one event a line on standard input (run-recorder emit --help)");
  }
  StandardInput source;
  Emission emission(options, socket_path, source);
  emission.name_lines();
  if (terminal_of(STDERR_FILENO).is_terminal) emission.show_progress([&] { return part_read(source); });
  return emission.run();
}

namespace {

void declare_fields(Flags& flags, EmitOptions& options) {
  flags.text("--type", options.type,
             "run_queued, run_started, run_heartbeat, run_completed, run_failed, run_lost, or a type of one's own",
             "TYPE");
  flags.text("--run-id", options.run_id, "The run (attempt) it is about; inside of exec: the run of exec", "ID");
  flags.text("--id", options.id, "The event's own id; a second one with it changes nothing (default: a new one)",
             "ID");
  flags.text("--at", options.at, "When it happened, RFC 3339 with offset (default: when it arrives)", "TIME");
  flags.text("--council", options.council, "What is being run (queued, started)", "NAME");
  flags.text("--input", options.input, "What it was given (queued, started)", "JSON");
  flags.integer("--attempt", options.attempt, "Number of the attempt (queued, started)", "N");
  flags.text("--parent-attempt-run-id", options.parent_attempt_run_id,
             "The attempt before, or the first one (queued, started)", "ID");
  flags.text("--queue", options.queue, "The configured queue that has the job (queued, started)", "NAME");
  flags.text("--job-id", options.job_id, "The queue's job (queued, started)", "ID");
  flags.integer("--oban-job-id", options.oban_job_id, "The same, for a queue whose ids are integers", "N");
  flags.text("--expires-in", options.expires_in,
             "Without another event for so long nobody vouches for the run any more (started, heartbeat)", "SECONDS");
  flags.text("--result", options.result, "What came out (completed, failed)", "JSON");
  flags.text("--errors", options.errors, "A list of strings or objects with kind and message (failed)", "JSON");
  flags.text("--job-state", options.job_state, "The job's state as the sender knows it (completed, failed)", "STATE");
  flags.text("--message", options.message, "What was seen of a run that ended without an outcome (lost)", "TEXT");
  flags.text("--usage", options.usage, "Numbers to be added up in the run: {\"input_tokens\":1200}", "JSON");
  flags.text("--progress", options.progress, "How far it is: 3/10, or {\"done\":3,\"total\":10,\"unit\":\"files\"}",
             "JSON");
  flags.text("--payload", options.payload, "An object (types of one's own)", "JSON");
  flags.integer("--worker-pid", options.worker_pid,
                "The process without which the run cannot go on (default: see below)", "PID");
}

Handler declare_emit(Flags flags) {
  const auto options = std::make_shared<EmitOptions>();
  declare_fields(flags, *options);
  flags.on_without("--no-worker-pid", options->no_worker_pid, "Name no process", "--worker-pid");
  flags.duration("--wait", options->wait,
                 "How long to go on trying without getting on: the spool is full, the daemon restarts");
  return [options](const Invocation& invocation) {
    // Inside of exec an event is about its run, unless it names another.
    const auto run = invocation.environment.find("RUN_RECORDER_RUN_ID");
    if (run != invocation.environment.end()) {
      options->vouched_run_id = run->second;
      if (options->one_event() && !options->run_id) options->run_id = run->second;
    }
    const Config config = invocation.load().value();
    options->warnings = config.warnings;
    return run_emit(*options, invocation.socket_path(config));
  };
}

}  // namespace

extern const Command kEmitCommand = {
    "emit", "Send events: one from flags, or one JSON object a line on standard input", declare_emit,

    "Ends with 0 when all events are acknowledged and so durable, 1 naming the lines refused, 69 when the daemon "
    "is away.\n"
    "\n"
    "The default of --worker-pid is the nearest caller that is there for longer than this command: a script, an "
    "interactive shell, a program; not sh -c, a subshell, or timeout, sudo, xargs and the like. There is none for "
    "run_queued, run_heartbeat and run_lost, for the run of exec (its process is known), over ssh, and where the "
    "caller is process 1. A script that only sends should give --worker-pid or --no-worker-pid.\n"
    "\n  run-recorder emit --type run_started --run-id r1 --council nightly-report"
    "\n  run-recorder emit --type run_failed --run-id r1 --errors '[{\"kind\":\"exit\",\"message\":\"no space\"}]'"
    "\n  run-recorder emit --type run_heartbeat --run-id r1 --expires-in 5m --progress 3/10"
    "\n  jq -c . events.json | run-recorder emit --no-worker-pid"};

}  // namespace run_recorder
