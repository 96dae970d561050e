// `run-recorder exec`: runs a command and records that as a run (cli/execution.h).
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/json_text.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/execution.h"
#include "cli/text.h"
#include "cli/unsent_events.h"
#include "run/names.h"

namespace run_recorder {
namespace {

constexpr std::size_t kInputDepth = 60;

void require_name(const char* flag, const std::optional<std::string>& value, std::size_t max_bytes = kMaxNameBytes) {
  if (!value) return;
  if (value->empty() || value->size() > max_bytes || !valid_utf8(*value) || value->find('\0') != std::string::npos) {
    throw StartError(kExitUsage, fmt::format("{}: invalid value: must be 1 to {} bytes of UTF-8", flag, max_bytes));
  }
}

// A flag that would be without effect.
void require_beside(const Flags& flags, const char* flag, const char* other) {
  if (flags.given(flag) && !flags.given(other)) throw StartError(kExitUsage, fmt::format("{} needs {}", flag, other));
}

// What the daemon would refuse is refused before anything runs.
void check(const ExecOptions& options) {
  require_name("--council", options.council);
  require_name("--run-id", options.run_id);
  require_name("--parent", options.parent_attempt_run_id);
  require_name("--queue", options.queue, kMaxShortNameBytes);
  require_name("--job-id", options.job_id);
  if (options.job_id && options.oban_job_id && *options.job_id != std::to_string(*options.oban_job_id)) {
    throw StartError(kExitUsage, "--job-id and --oban-job-id name different jobs: give one of them");
  }
  if (options.input && options.record_args) {
    throw StartError(kExitUsage, "--input and --record-args both say what the input is: give one of them");
  }
  if (!options.input) return;
  const JsonScan scan = scan_json(*options.input, kInputDepth);
  if (scan.problem != JsonProblem::kNone) {
    throw StartError(kExitUsage, fmt::format("--input: invalid value: {}; must be JSON", scan.message));
  }
}

constexpr Flags::Bounds kRetries{0, 1'000};
constexpr Flags::Bounds kTailLines{0, 1'000};
constexpr Flags::Bounds kLogBytes{std::uint64_t{4} << 10, std::uint64_t{1} << 40};
// A chain's last attempt must fit, too.
constexpr std::int64_t kHighestAttempt = std::int64_t{INT32_MAX} - 1 - static_cast<std::int64_t>(kRetries.highest);

// A broken configuration must not keep a job from running: it is said, and the socket is at its usual place.
EventSocket find_socket(const Invocation& invocation, std::vector<std::string>& warnings) {
  const LoadedConfig config = invocation.load_for(kSocketPathKey);
  warnings = config ? config->warnings
                    : std::vector{config.error().text() + "\nrun-recorder: the command runs all the same"};
  EventSocket found = invocation.event_socket(config);
  // The command may change its directory before it uses the path.
  std::error_code ignored;
  found.path = std::filesystem::absolute(found.path, ignored).string();
  return found;
}

Handler declare_exec(Flags flags) {
  const auto options = std::make_shared<ExecOptions>();
  flags.text("--council,--name", options->council, "What is being run (default: the command's name)", "NAME");
  flags.text("--run-id", options->run_id, "The run's id (default: a new one)", "ID");
  flags.integer("--attempt", options->attempt, "The first attempt's number", "N", 1, kHighestAttempt);
  flags.text("--parent,--parent-attempt-run-id", options->parent_attempt_run_id, "The previous attempt's run id",
             "ID");
  flags.text("--queue", options->queue, "The configured queue of the job", "NAME");
  flags.text("--job-id", options->job_id, "The job's id in its queue", "ID");
  flags.integer("--oban-job-id", options->oban_job_id, "The same as --job-id, for an integer", "N", 1, INT64_MAX);
  flags.text("--input", options->input, "The command's input (default: its name)", "JSON");
  flags.on("--record-args", options->record_args, "Store the command's arguments too; they may hold passwords");
  flags.number("--retries", options->retries, "Retry a failed command up to N times, as a chain of attempts",
               kRetries, Flags::Default::kHidden);
  flags.duration("--retry-delay", options->retry_delay, "The pause before each retry");
  flags.duration(
      "--timeout", options->timeout,
      "End the command, and what is below it, with SIGTERM when it takes longer; the run fails, and the exit "
      "status is 124");
  flags.duration("--kill-after", options->kill_after, "How long after that SIGKILL follows");
  flags.text("--log-dir", options->log_folder,
             "Keep standard output and standard error in a file of this folder, for run-recorder logs", "DIR");
  flags.size("--log-bytes", options->log_bytes, "What that file may have: its beginning is kept, and its end",
             kLogBytes);
  flags.number("--tail", options->tail,
               "Keep the last N lines of standard error in the error; 0 leaves standard error alone, for a command "
               "that needs a terminal there",
               kTailLines);
  return [options, flags](const Invocation& invocation) {
    options->command = invocation.command;
    if (options->command.empty()) {
      throw StartError(kExitUsage, "exec needs a command: run-recorder exec [OPTIONS] [--] COMMAND [ARGUMENT...]");
    }
    const EventSocket found = find_socket(invocation, options->warnings);
    check(*options);
    require_beside(flags, "--kill-after", "--timeout");
    require_beside(flags, "--log-bytes", "--log-dir");
    if (flags.given("--log-dir")) {
      if (options->log_folder.empty()) throw StartError(kExitUsage, "--log-dir: " + invalid_value("", "a folder"));
      // The command may change its directory, and whoever reads the log has another one.
      std::error_code ignored;
      options->log_folder = std::filesystem::absolute(options->log_folder, ignored).lexically_normal().string();
    }
    return execute(*options, found, unsent_folder(invocation.environment, ::geteuid()));
  };
}

}  // namespace

extern const Command kExecCommand = {
    "exec",
    "Run a command and record it as a run",
    declare_exec,

    "Standard input and output, signals and the exit status pass through. The command finds RUN_RECORDER_RUN_ID and "
    "RUN_RECORDER_SOCKET_PATH in its environment. The first word that is no flag of exec begins it, or what follows "
    "--. It runs also when the daemon is away; events that could not be sent by its end are printed to standard error, "
    "as lines that emit takes, and kept in a file of this user's until an exec or emit reaches the daemon. With --log-dir "
    "the command sees a pipe instead of a terminal, and nobody removes old logs.\n"
    "\n  run-recorder exec --council nightly-backup -- ./backup.sh"
    "\n  run-recorder exec --retries 3 --retry-delay 30s -- rsync -a /srv/ backup:/srv/"
    "\n  run-recorder exec --timeout 2h --log-dir /var/log/jobs -- ./report.sh",
    {},
    true};

}  // namespace run_recorder
