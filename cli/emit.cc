// `run-recorder emit`: one event from flags, or events line by line from standard input (cli/emission.h).
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_text.h"
#include "base/number.h"
#include "cli/caller.h"
#include "cli/command.h"
#include "cli/emission.h"
#include "cli/event_line.h"
#include "cli/line_reader.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "cli/unsent_events.h"
#include "run/names.h"

namespace run_recorder {
namespace {

struct EmitOptions {
  // One event. JSON fields are checked to be JSON, the rest is for the daemon to judge.
  std::optional<std::string> type, run_id, id, at, council, parent_attempt_run_id, queue, job_id, job_state, message;
  std::optional<std::string> host, unit, user, cwd, command;
  std::optional<std::string> input, result, errors, usage, payload;  // JSON
  std::optional<std::string> progress;                               // JSON, or "3/10"
  std::optional<std::string> expires_in;                             // seconds, or a duration of whole seconds
  std::optional<std::int64_t> attempt, oban_job_id;
  // Both ways.
  std::optional<std::int64_t> worker_pid;
  bool no_worker_pid = false;
  std::string vouched_run_id;              // the run of the `exec` around this command; empty: there is none
  std::vector<std::string> warnings;       // said while the events are under way
  std::chrono::milliseconds wait{10'000};  // how long to retry without progress
  bool wait_given = false;

  // Any field of one event was given: it is not about standard input then.
  bool one_event() const {
    return type || run_id || id || at || council || parent_attempt_run_id || input || result || errors || payload ||
           attempt || oban_job_id || queue || job_id || job_state || message || usage || progress || expires_in ||
           host || unit || user || cwd || command;
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw StartError(kExitUsage, message);
}

void require_json(const char* flag, const std::optional<std::string>& value) {
  if (!value) return;
  const JsonScan scan = scan_json(*value, kLineDepth);
  if (scan.problem == JsonProblem::kMalformed)
    usage(fmt::format("{}: invalid value: {}; must be JSON", flag, scan.message));
}

void require_utf8(const char* flag, const std::optional<std::string>& value) {
  if (value && !valid_utf8(*value)) usage(fmt::format("{}: invalid value: must be UTF-8", flag));
}

// The protocol leaves what does not fit without effect; who has typed it is told.
void require_text(const char* flag, const std::optional<std::string>& value, std::size_t max_bytes) {
  require_utf8(flag, value);
  if (value && (value->empty() || value->size() > max_bytes))
    usage(fmt::format("{}: invalid value: must have 1 to {} bytes", flag, max_bytes));
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
  if (const auto seconds = parse_number<std::int64_t>(text)) return *seconds;
  const std::optional<std::chrono::milliseconds> duration = parse_duration(text);
  if (!duration || duration->count() % 1'000 != 0) {
    usage("--expires-in: " + invalid_value(text, "seconds, or a duration of whole seconds such as 90s or 5m"));
  }
  return duration->count() / 1'000;
}

// The daemon takes any numbers; less than nothing is a mistake of who typed it.
void require_progress(const std::optional<std::string>& value) {
  if (!value) return;
  const std::string object = progress_object(*value);
  const JsonScan scan = scan_json(object, kLineDepth);
  bool allowed = scan.problem != JsonProblem::kMalformed && scan.type == JsonType::kObject;
  bool done = false;
  for (const JsonMember& member : scan.members) {
    if (member.key != "done" && member.key != "total") continue;
    done = done || member.key == "done";
    allowed = allowed && member.type == JsonType::kNumber && !member.value.starts_with('-');
  }
  if (!allowed || !done) {
    usage("--progress: " + invalid_value(*value,
                                         "DONE/TOTAL, numbers from 0 as 3/10, or an object with done and, if "
                                         "wanted, total and unit"));
  }
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
  require_text("--host", options.host, kMaxNameBytes);
  require_text("--unit", options.unit, kMaxNameBytes);
  require_text("--user", options.user, kMaxNameBytes);
  require_text("--cwd", options.cwd, kMaxCommandBytes);
  require_text("--command", options.command, kMaxCommandBytes);
  require_json("--input", options.input);
  require_json("--result", options.result);
  require_json("--errors", options.errors);
  require_json("--usage", options.usage);
  require_progress(options.progress);
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
  text("host", options.host);
  text("unit", options.unit);
  text("user", options.user);
  text("cwd", options.cwd);
  text("command", options.command);
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
  LineReader reader_{STDIN_FILENO, kMaxEmittedBytes};
};

// "42% of it read, " where standard input is a file, so that its size is known.
std::string part_read(const StandardInput& input) {
  struct stat status {};
  if (::fstat(STDIN_FILENO, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) return {};
  return fmt::format("{}% read, ", std::min<std::uint64_t>(
                                       100, input.bytes_read() * 100 / static_cast<std::uint64_t>(status.st_size)));
}

int run_emit(const EmitOptions& options, const EventSocket& socket, const std::string& unsent_folder) {
  // Words that nobody reads any more shall not keep events from being sent.
  std::signal(SIGPIPE, SIG_IGN);
  EmissionOptions emission{.socket = socket,
                           .unsent_folder = unsent_folder,
                           .wait = options.wait,
                           .wait_for_start = options.wait_given,
                           .completion = {},
                           .warnings = options.warnings,
                           .how_far = {}};
  if (options.one_event()) {
    check_one_event(options);
    OneEvent source(line_of(options));
    emission.completion = completion_of(options);
    return send_events(emission, source);
  }
  if (::isatty(STDIN_FILENO) == 1) {
    complain(
        "reading events from the terminal, one JSON object a line; end with Ctrl-D (--help: one event from flags)");
  }
  StandardInput source;
  emission.completion = completion_of(options);
  emission.names_lines = true;
  if (terminal_of(STDERR_FILENO).is_terminal) emission.how_far = [&] { return part_read(source); };
  return send_events(emission, source);
}

void declare_fields(Flags& flags, EmitOptions& options) {
  flags.text("--type", options.type,
             "run_queued, run_started, run_heartbeat, run_completed, run_failed, run_lost, or a type of your own",
             "TYPE");
  flags.text("--run-id", options.run_id, "The run's id, one for each attempt (default inside exec: its run)", "ID");
  flags.text("--id", options.id, "The event's id; a second event with it changes nothing (default: a new one)", "ID");
  flags.text("--at", options.at, "When it happened, RFC 3339 with offset (default: when it is received)", "TIME");
  flags.text("--council,--name", options.council, "What is being run (queued, started)", "NAME");
  flags.text("--input", options.input, "The run's input (queued, started)", "JSON");
  flags.integer("--attempt", options.attempt, "The attempt's number (queued, started)", "N");
  flags.text("--parent-attempt-run-id", options.parent_attempt_run_id,
             "The run id of the previous or the first attempt (queued, started)", "ID");
  flags.text("--queue", options.queue, "The configured queue of the job (queued, started)", "NAME");
  flags.text("--job-id", options.job_id, "The job's id in its queue (queued, started)", "ID");
  flags.integer("--oban-job-id", options.oban_job_id, "The same as --job-id, for an integer", "N");
  flags.text("--host", options.host, "The host that the run runs on (queued, started; default: the daemon's)",
             "NAME");
  flags.text("--unit", options.unit, "The systemd unit that it runs in (queued, started)", "NAME");
  flags.text("--user", options.user, "The user that it runs as (queued, started)", "NAME");
  flags.text("--cwd", options.cwd, "The folder that it runs in (queued, started)", "PATH");
  flags.text("--command", options.command, "The command that it is (queued, started)", "TEXT");
  flags.text("--expires-in", options.expires_in,
             "How long the run counts as alive without another event: seconds, or 5m (started, heartbeat)",
             "SECONDS");
  flags.text("--result", options.result, "The run's result (completed, failed)", "JSON");
  flags.text("--errors", options.errors, "A list of strings, or of objects with kind and message (failed)", "JSON");
  flags.text("--job-state", options.job_state, "The job's state as the sender knows it (completed, failed)", "STATE");
  flags.text("--message", options.message, "What is known of a run that ended without an outcome (lost)", "TEXT");
  flags.text("--usage", options.usage, "Numbers to add to the run's usage: {\"input_tokens\":1200}", "JSON");
  flags.text("--progress", options.progress,
             "How far the run is: 3/10, or {\"done\":3,\"total\":10,\"unit\":\"files\"}", "JSON");
  flags.text("--payload", options.payload, "A JSON object (types of your own)", "JSON");
  flags.integer("--worker-pid", options.worker_pid, "The process that the run depends on (default: see below)",
                "PID");
}

Handler declare_emit(Flags flags) {
  const auto options = std::make_shared<EmitOptions>();
  declare_fields(flags, *options);
  flags.on_without("--no-worker-pid", options->no_worker_pid, "Send no worker_pid", "--worker-pid");
  flags.duration("--wait", options->wait,
                 "How long to retry without progress: the spool is full, the daemon restarts; where it is given, "
                 "also a daemon that is away is waited for");
  return [options, flags](const Invocation& invocation) {
    options->wait_given = flags.given("--wait");
    // Inside of exec an event is about its run, unless it names another.
    const auto run = invocation.environment.find("RUN_RECORDER_RUN_ID");
    if (run != invocation.environment.end()) {
      options->vouched_run_id = run->second;
      if (options->one_event() && !options->run_id) options->run_id = run->second;
    }
    const LoadedConfig config = invocation.load_for(kSocketPathKey);
    options->warnings = config.value().warnings;
    return run_emit(*options, invocation.event_socket(config), unsent_folder(invocation.environment, ::geteuid()));
  };
}

}  // namespace

extern const Command kEmitCommand = {
    "emit", "Send events: one from flags, or one JSON object a line from standard input", declare_emit,

    "Exits 0 when all events are acknowledged and so durable, 1 naming the lines refused, 69 when the daemon "
    "is away.\n"
    "\n"
    "The default of --worker-pid is the nearest caller that outlives this command: a script, an "
    "interactive shell, a program; not sh -c, a subshell, or timeout, sudo, xargs and the like. There is none for "
    "run_queued, run_heartbeat and run_lost, for the run of exec (its process is known), over ssh, and where the "
    "caller is process 1. A script that only sends should give --worker-pid or --no-worker-pid.\n"
    "\n  run-recorder emit --type run_started --run-id r1 --council nightly-report"
    "\n  run-recorder emit --type run_failed --run-id r1 --errors '[{\"kind\":\"exit\",\"message\":\"no space\"}]'"
    "\n  run-recorder emit --type run_heartbeat --run-id r1 --expires-in 5m --progress 3/10"
    "\n  jq -c . events.json | run-recorder emit --no-worker-pid"};

}  // namespace run_recorder
