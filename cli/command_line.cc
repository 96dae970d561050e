#include "cli/command_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <clocale>
#include <filesystem>
#include <functional>

#include "base/url.h"
#include "cli/dead_letters.h"
#include "cli/doctor.h"
#include "cli/emit.h"
#include "cli/exec.h"
#include "cli/follow.h"
#include "cli/move.h"
#include "cli/prune.h"
#include "cli/reconcile.h"
#include "cli/run_query.h"
#include "cli/runs.h"
#include "cli/spool_view.h"
#include "cli/stats.h"
#include "cli/status.h"
#include "cli/text.h"
#include "config/config.h"
#include "run/status.h"

namespace run_recorder {
namespace {

constexpr std::uint64_t kNoLimit = UINT64_MAX;
constexpr std::uint64_t kMaxRetries = 1'000;
constexpr std::uint64_t kMaxTail = 1'000;
constexpr std::uint64_t kFollowedRuns = 200;
constexpr std::chrono::milliseconds kShortestAge{1};

// What is common to all commands; and which one was asked for.
struct Request {
  std::vector<std::pair<std::string, std::string>> config_flags;
  Environment environment;
  std::string socket, control;  // --socket, --control
  bool json = false;
  std::function<int()> run;  // set by the command that was named
};

LoadedConfig load_for_tool(const Request& request) {
  ConfigSources sources;
  sources.flags = request.config_flags;
  sources.environment = request.environment;
  sources.uid = ::geteuid();
  sources.for_tool = true;
  return load_config(sources);
}

// The same, with what is odd about it said. Every command asks once.
LoadedConfig configuration(const Request& request) {
  LoadedConfig config = load_for_tool(request);
  if (config) {
    for (const std::string& warning : config->warnings) complain(warning);
  }
  return config;
}

std::string socket_path(const Request& request, std::vector<std::string>& warnings) {
  const Config config = load_for_tool(request).value();
  warnings = config.warnings;
  return request.socket.empty() ? client_socket_path(config, request.environment) : request.socket;
}

// A broken configuration must not keep a job from running: exec says it, and goes on with the usual place.
std::string socket_path_for_exec(const Request& request, std::vector<std::string>& warnings) {
  const LoadedConfig config = load_for_tool(request);
  if (config) {
    warnings = config->warnings;
  } else {
    warnings = {config.error().text() + "\nrun-recorder: the command runs all the same"};
  }
  const std::string path =
      !request.socket.empty() ? request.socket : client_socket_path(config ? *config : Config(), request.environment);
  // The command may change its directory before it uses the path.
  std::error_code ignored;
  return std::filesystem::absolute(path, ignored).string();
}

Context context(const Request& request) {
  const Config config = configuration(request).value();
  return {ControlClient(request.control.empty() ? client_control_path(config, request.environment) : request.control),
          request.json};
}

// ---- values

CLI::Validator duration_value() {
  return CLI::Validator(
      [](std::string& text) {
        return parse_duration(text) ? std::string() : text + " is no duration such as 500ms, 30s or 5m";
      },
      "");
}

CLI::Validator since_value() {
  return CLI::Validator(
      [](std::string& text) {
        if (parse_since(text, now_utc())) return std::string();
        return text + " is neither a time such as 2026-01-02T03:04:05Z nor a duration such as 1h";
      },
      "");
}

CLI::Validator status_value(bool only_terminal) {
  return CLI::Validator(
      [only_terminal](std::string& text) {
        const std::optional<Status> status = parse_status(text);
        const auto finished = terminal_statuses();
        if (status && (!only_terminal || std::ranges::count(finished, *status) > 0)) return std::string();
        return text + " is none of " + (only_terminal ? "" : "queued, running, ") +
               "completed, failed, cancelled and stuck";
      },
      "");
}

template <class T>
CLI::Validator between(T lowest, T highest) {
  CLI::Range range(lowest, highest);
  range.description("");
  return range;
}

void add_duration(CLI::App* command, const std::string& flag, std::chrono::milliseconds& value,
                  const std::string& help) {
  command
      ->add_option_function<std::string>(
          flag, [&value](const std::string& text) { value = parse_duration(text).value_or(value); }, help)
      ->check(duration_value())
      ->default_str(format_duration(value))
      ->type_name("DURATION");
}

template <class T>
void add_optional(CLI::App* command, const std::string& flag, std::optional<T>& value, const std::string& help,
                  const std::string& type) {
  command
      ->add_option_function<T>(
          flag, [&value](const T& given) { value = given; }, help)
      ->type_name(type);
}

// exec takes a command behind "--", which the parser never sees.
class Formatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    if (app->get_name() == "exec") return "Usage: run-recorder exec [OPTIONS] -- COMMAND [ARGUMENT...]\n";
    return CLI::Formatter::make_usage(app, std::move(name));
  }
};

// ---- commands: each declares its flags and what it runs. The option structs live as long as the parser.

struct Commands {
  EmitOptions emit;
  ExecOptions exec;
  RunQuery list, watched, stats;
  bool list_all = false, list_follow = false, list_wide = false;
  RunWidth list_width() const { return list_wide ? RunWidth::kWide : RunWidth::kUsual; }
  std::chrono::milliseconds interval{1'000}, watch_interval{2'000};
  std::string run_id, pass_id;
  std::uint64_t event_limit = 1'000, pass_limit = 20, letter_limit = 100;
  bool events_all = false, letters_all = false;
  ReconcileOptions reconcile;
  PruneOptions prune;
  std::vector<std::string> letter_ids;
  std::string export_cursor;
  std::uint64_t from_seq = 1, record_limit = 100;
  bool records_all = false;
};

void add_event_fields(CLI::App* emit, EmitOptions& options) {
  add_optional(emit, "--type", options.type,
               "run_queued, run_started, run_heartbeat, run_completed, run_failed, run_lost, or a type of one's own",
               "TYPE");
  add_optional(emit, "--run-id", options.run_id, "The run (attempt) it is about; inside of exec: the run of exec",
               "ID");
  add_optional(emit, "--id", options.id,
               "The event's own id; a second one with it changes nothing (default: a new one)", "ID");
  add_optional(emit, "--at", options.at, "When it happened, RFC 3339 with offset (default: when it arrives)", "TIME");
  add_optional(emit, "--council", options.council, "What is being run (queued, started)", "NAME");
  add_optional(emit, "--input", options.input, "What it was given (queued, started)", "JSON");
  add_optional(emit, "--attempt", options.attempt, "Number of the attempt (queued, started)", "N");
  add_optional(emit, "--parent-attempt-run-id", options.parent_attempt_run_id,
               "The attempt before, or the first one (queued, started)", "ID");
  add_optional(emit, "--queue", options.queue, "The configured queue that has the job (queued, started)", "NAME");
  add_optional(emit, "--job-id", options.job_id, "The queue's job (queued, started)", "ID");
  add_optional(emit, "--oban-job-id", options.oban_job_id, "The same, for a queue whose ids are integers", "N");
  add_optional(emit, "--expires-in", options.expires_in,
               "Without another event for so long nobody vouches for the run any more (started, heartbeat)",
               "SECONDS");
  add_optional(emit, "--result", options.result, "What came out (completed, failed)", "JSON");
  add_optional(emit, "--errors", options.errors, "A list of strings or objects with kind and message (failed)",
               "JSON");
  add_optional(emit, "--job-state", options.job_state, "The job's state as the sender knows it (completed, failed)",
               "STATE");
  add_optional(emit, "--message", options.message, "What was seen of a run that ended without an outcome (lost)",
               "TEXT");
  add_optional(emit, "--usage", options.usage, "Numbers to be added up in the run: {\"input_tokens\":1200}", "JSON");
  add_optional(emit, "--progress", options.progress,
               "How far it is: 3/10, or {\"done\":3,\"total\":10,\"unit\":\"files\"}", "JSON");
  add_optional(emit, "--payload", options.payload, "An object (types of one's own)", "JSON");
  add_optional(emit, "--worker-pid", options.worker_pid,
               "The process without which the run cannot go on (default: see below)", "PID");
}

void declare_emit(CLI::App& app, Request& request, EmitOptions& options) {
  CLI::App* emit =
      app.add_subcommand("emit", "Send events: one from flags, or one JSON object a line on standard input");
  add_event_fields(emit, options);
  emit->add_flag("--no-worker-pid", options.no_worker_pid, "Name no process")->excludes("--worker-pid");
  add_duration(emit, "--wait", options.wait,
               "How long to go on trying without getting on: the spool is full, the daemon restarts");
  emit->footer(
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
      "\n  jq -c . events.json | run-recorder emit --no-worker-pid");
  emit->callback([&] {
    // Inside of exec an event is about its run, unless it names another.
    if (const auto run = request.environment.find("RUN_RECORDER_RUN_ID"); run != request.environment.end()) {
      options.vouched_run_id = run->second;
      if (options.one_event() && !options.run_id) options.run_id = run->second;
    }
    request.run = [&] {
      const std::string path = socket_path(request, options.warnings);
      return run_emit(options, path);
    };
  });
}

void declare_exec(CLI::App& app, Request& request, ExecOptions& options) {
  CLI::App* exec = app.add_subcommand("exec", "Run a command and record it as a run");
  add_optional(exec, "--council", options.council, "What is being run (default: the command's name)", "NAME");
  add_optional(exec, "--run-id", options.run_id, "The run's id (default: a new one)", "ID");
  add_optional(exec, "--attempt", options.attempt, "Number of the (first) attempt", "N");
  exec->get_option("--attempt")->check(between(std::int64_t{1}, std::int64_t{INT32_MAX} - 1'001));
  add_optional(exec, "--parent,--parent-attempt-run-id", options.parent_attempt_run_id, "The attempt before", "ID");
  add_optional(exec, "--queue", options.queue, "The configured queue that has the job", "NAME");
  add_optional(exec, "--job-id", options.job_id, "The queue's job", "ID");
  add_optional(exec, "--oban-job-id", options.oban_job_id, "The same, for a queue whose ids are integers", "N");
  exec->get_option("--oban-job-id")->check(between(std::int64_t{1}, INT64_MAX));
  add_optional(exec, "--input", options.input, "What it is given (default: the command's name)", "JSON");
  exec->add_flag("--record-args", options.record_args, "Store the command's arguments too; they may hold passwords");
  exec->add_option("--retries", options.retries,
                   "After a failure run it again, at most that often, as a chain of attempts")
      ->check(between(std::uint64_t{0}, kMaxRetries))
      ->type_name("N");
  add_duration(exec, "--retry-delay", options.retry_delay, "The pause before each of these");
  exec->add_option(
          "--tail", options.tail,
          "Last lines of standard error to keep in the error; 0 leaves standard error alone, as for a command "
          "that wants a terminal there")
      ->check(between(std::uint64_t{0}, kMaxTail))
      ->capture_default_str()
      ->type_name("N");
  exec->footer(
      "Standard input and output, signals and the exit status pass through. The command finds RUN_RECORDER_RUN_ID "
      "and "
      "RUN_RECORDER_SOCKET_PATH in its environment. It runs also when the daemon is away; events that could not be "
      "sent by its end are then printed to standard error, for emit.\n"
      "\n  run-recorder exec --council nightly-backup -- ./backup.sh"
      "\n  run-recorder exec --retries 3 --retry-delay 30s -- rsync -a /srv/ backup:/srv/");
  exec->callback([&] {
    if (options.command.empty()) {
      throw StartError(kExitUsage,
                       "exec needs a command behind --: run-recorder exec [flags] -- COMMAND [ARGUMENT...]");
    }
    request.run = [&] {
      const std::string path = socket_path_for_exec(request, options.warnings);
      return run_exec(options, path);
    };
  });
}

void add_filters(CLI::App* command, RunQuery& query) {
  command
      ->add_option("--status", query.statuses,
                   "queued, running, completed, failed, cancelled, stuck; several by comma")
      ->delimiter(',')
      ->check(status_value(false))
      ->type_name("STATUS");
  add_optional(command, "--council", query.council, "Only runs of this", "NAME");
  add_optional(command, "--job", query.job, "Only attempts of this job, by its id in its queue", "ID");
  add_optional(command, "--queue", query.queue,
               "Only runs of this queue's jobs; default: also those that name a job and no queue", "NAME");
  add_optional(command, "--oban-job-id", query.oban_job_id, "The same as --job, for an integer", "N");
  add_optional(command, "--pass", query.pass, "Only runs that this reconciliation marked stuck", "PASS");
  command
      ->add_option_function<std::string>(
          "--since", [&query](const std::string& text) { query.since = parse_since(text, now_utc()); },
          "Only runs recorded since then: 2026-01-02T03:04:05Z, or a duration before now such as 1h")
      ->check(since_value())
      ->type_name("TIME");
  command
      ->add_option_function<std::string>(
          "--until", [&query](const std::string& text) { query.until = parse_since(text, now_utc()); },
          "Only runs recorded before then, given like --since")
      ->check(since_value())
      ->type_name("TIME");
}

void add_limit(CLI::App* command, std::uint64_t& limit, bool& all, const std::string& what) {
  CLI::Option* option = command->add_option("--limit", limit, "At most so many " + what)
                            ->check(between(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
                            ->capture_default_str()
                            ->type_name("N");
  command->add_flag("--all", all, "All " + what)->excludes(option);
}

void declare_list(CLI::App& app, Request& request, Commands& all) {
  CLI::App* list = app.add_subcommand("list", "Runs, the newest first");
  add_filters(list, all.list);
  add_limit(list, all.list.limit, all.list_all, "runs");
  list->add_flag("--wide", all.list_wide, "With queue, parent, ages, progress and usage too");
  list->add_flag("--follow,-f", all.list_follow, "Go on with each run that is new or changes its status");
  add_duration(list, "--interval", all.interval, "How often --follow looks");
  list->footer(
      "  run-recorder list --status stuck,failed --since 24h\n  run-recorder list --json --all | jq .council");
  list->callback([&, list] {
    request.run = [&, list] {
      if (all.list_follow) {
        all.list.limit = std::min(all.list_all ? kFollowedRuns : all.list.limit, kFollowedRuns);
        return follow_runs(context(request), all.list, all.interval, all.list_width());
      }
      // What a pass has marked is wanted whole.
      const bool whole_pass = all.list.pass && list->count("--limit") == 0;
      if (all.list_all || whole_pass) all.list.limit = kNoLimit;
      return list_runs(context(request), all.list, all.list_width());
    };
  });
}

// A command about one run.
CLI::App* declare_about_run(CLI::App& app, Commands& all, const std::string& name, const std::string& help) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("RUN", all.run_id, "The run's id")->required()->type_name("");
  return command;
}

void declare_about_runs(CLI::App& app, Request& request, Commands& all) {
  declare_about_run(app, all, "show", "Everything about one run")->callback([&] {
    request.run = [&] { return show_run(context(request), all.run_id); };
  });
  CLI::App* events = declare_about_run(app, all, "events", "A run's history, in the order it was applied");
  add_limit(events, all.event_limit, all.events_all, "entries");
  events->callback([&] {
    request.run = [&] {
      return list_events(context(request), all.run_id, all.events_all ? kNoLimit : all.event_limit);
    };
  });
  declare_about_run(app, all, "chain", "All attempts of what this run is an attempt of")->callback([&] {
    request.run = [&] { return show_chain(context(request), all.run_id); };
  });
  declare_about_run(app, all, "explain", "What each rule of reconciliation says of a run now")->callback([&] {
    request.run = [&] { return explain_run(context(request), all.run_id); };
  });
}

void declare_watching(CLI::App& app, Request& request, Commands& all) {
  CLI::App* watched = app.add_subcommand("watch", "The newest runs, live");
  add_filters(watched, all.watched);
  add_duration(watched, "--interval", all.watch_interval, "How often to look");
  watched->callback([&] {
    request.run = [&] {
      all.watched.limit = kFollowedRuns;
      return watch(context(request), all.watched, all.watch_interval);
    };
  });
  CLI::App* stats =
      app.add_subcommand("stats", "How the newest runs went, how long they took and what they used, by council");
  add_filters(stats, all.stats);
  all.stats.limit = 1'000;
  stats->add_option("--limit", all.stats.limit, "The newest so many runs")
      ->check(between(std::uint64_t{1}, std::uint64_t{1'000'000}))
      ->capture_default_str()
      ->type_name("N");
  stats->callback([&] { request.run = [&] { return show_stats(context(request), all.stats); }; });
  app.add_subcommand("status", "How the daemon is: its ledger, spool and database")->callback([&] {
    request.run = [&] { return show_status(context(request)); };
  });
}

void declare_reconcile(CLI::App& app, Request& request, Commands& all) {
  CLI::App* command =
      app.add_subcommand("reconcile", "Compare the runs that say running with what is really alive, now");
  ReconcileOptions& options = all.reconcile;
  CLI::Option* undo =
      command->add_option("--undo", all.pass_id, "Return that pass's runs, unless they moved since, to running")
          ->type_name("PASS");
  command->add_flag("--dry-run", options.dry_run, "Report only, change nothing")->excludes(undo);
  command->add_flag("--unvouched", options.unvouched, "Runs that nobody vouches for are stuck, as after a boot")
      ->excludes(undo);
  command->add_flag("--force", options.force, "Mark also more than [reconcile] max_stuck allows")->excludes(undo);
  command->footer(
      "  run-recorder reconcile --dry-run\n  run-recorder reconcile --undo 01890a5d-ac96-774b-bcce-b302099a8057");
  command->callback([&] {
    request.run = [&] {
      return all.pass_id.empty() ? reconcile(context(request), options)
                                 : undo_reconciliation(context(request), all.pass_id);
    };
  });
  CLI::App* passes = app.add_subcommand("reconciliations", "The passes that were made, the newest first");
  passes->add_option("--limit", all.pass_limit, "At most so many")
      ->check(between(std::uint64_t{1}, std::uint64_t{1'000'000}))
      ->capture_default_str()
      ->type_name("N");
  passes->callback([&] { request.run = [&] { return list_reconciliations(context(request), all.pass_limit); }; });
}

void declare_prune(CLI::App& app, Request& request, PruneOptions& options) {
  CLI::App* command = app.add_subcommand("prune", "Remove finished runs whose time, as [retention] says, is over");
  command->add_flag("--dry-run", options.dry_run, "Count only, change nothing");
  command->add_option("--status", options.statuses, "Only completed, failed, cancelled, stuck; several by comma")
      ->delimiter(',')
      ->check(status_value(true))
      ->type_name("STATUS");
  add_optional(command, "--council", options.council, "Only runs of this", "NAME");
  add_optional(command, "--older-than", options.older_than,
               "Whose last event was applied, or which were found stuck, longer ago than this, instead of what "
               "[retention] says",
               "DURATION");
  command->get_option("--older-than")
      ->check(duration_value())
      ->check(CLI::Validator(
          [](std::string& text) {
            return parse_duration(text).value_or(kShortestAge) >= kShortestAge ? std::string()
                                                                               : "an age above 0s is needed";
          },
          ""));
  command->footer(
      "The attempts of a chain go together: none of them where one is still active, too young or not asked for.\n"
      "\n  run-recorder prune --dry-run\n  run-recorder prune --older-than 90d --status completed");
  command->callback([&] { request.run = [&] { return prune(context(request), options); }; });
}

void declare_dead_letters(CLI::App& app, Request& request, Commands& all) {
  CLI::App* group = app.add_subcommand("dead-letters", "Events that the database refuses for what they hold");
  group->require_subcommand(1);
  CLI::App* list = group->add_subcommand("list", "All of them, the oldest first");
  add_limit(list, all.letter_limit, all.letters_all, "dead letters");
  list->callback([&] {
    request.run = [&] { return list_dead_letters(context(request), all.letters_all ? kNoLimit : all.letter_limit); };
  });
  const auto with_ids = [&](const char* name, const char* help, auto function) {
    CLI::App* command = group->add_subcommand(name, help);
    command->add_option("ID", all.letter_ids, "As in the list")->required()->type_name("");
    command->callback([&request, &all, function] {
      request.run = [&request, &all, function] { return function(context(request), all.letter_ids); };
    });
    return command;
  };
  with_ids(
      "show", "One of them, with the event as it was sent",
      [](const Context& context, const std::vector<std::string>& ids) { return show_dead_letter(context, ids[0]); })
      ->get_option("ID")
      ->expected(1);
  with_ids("retry", "Apply them once more", &retry_dead_letters);
  with_ids("delete", "Give them up; they stay counted as removed", &delete_dead_letters);
}

void declare_spool(CLI::App& app, Request& request, Commands& all) {
  CLI::App* group = app.add_subcommand("spool", "The spool's folder, read beside a live daemon or without one");
  group->require_subcommand(1);
  const auto path = [&request] { return configuration(request).value().spool.path; };
  group->add_subcommand("status", "What is in it")->callback([&request, path] {
    request.run = [&request, path] { return show_spool(path(), request.json); };
  });
  group->add_subcommand("list", "Its segments")->callback([&request, path] {
    request.run = [&request, path] { return list_spool(path(), request.json); };
  });
  CLI::App* records = group->add_subcommand("records", "The events in it, applied or not, as long as they are kept");
  records->add_option("--from", all.from_seq, "From this number on")->type_name("N");
  add_limit(records, all.record_limit, all.records_all, "events");
  records->callback([&request, &all, path] {
    request.run = [&request, &all, path] {
      return list_spool_records(path(), all.from_seq, all.records_all ? kNoLimit : all.record_limit, request.json);
    };
  });
  group->add_subcommand("verify", "Read every record and check it; ends with 1 where something is damaged")
      ->callback([&request, path] { request.run = [&request, path] { return verify_spool(path(), request.json); }; });
  group->footer("--spool-path names another folder.");
}

// Goes on with a broken configuration, which it reports, and with the usual places then.
int examine_installation(const Request& request) {
  ConfigSources sources;
  sources.flags = request.config_flags;
  sources.environment = request.environment;
  sources.uid = ::geteuid();
  DoctorOptions options{load_config(sources), request.config_flags, {}};
  const LoadedConfig paths = load_for_tool(request);
  const Config config = paths ? *paths : Config();
  options.socket_path = request.socket.empty() ? client_socket_path(config, request.environment) : request.socket;
  const std::string control =
      request.control.empty() ? client_control_path(config, request.environment) : request.control;
  return examine({ControlClient(control), request.json}, options);
}

void declare_moving(CLI::App& app, Request& request, Commands& all) {
  CLI::App* exported = app.add_subcommand(
      "export", "All runs with their history, and what else moves with them, to standard output as lines of JSON");
  exported->add_option("--cursor", all.export_cursor, "Go on where an export stopped, as its error says")
      ->type_name("CURSOR");
  exported->callback([&] { request.run = [&] { return export_all(context(request), all.export_cursor); }; });
  CLI::App* imported = app.add_subcommand("import", "Take in what export wrote, from standard input");
  imported->footer(
      "What is there already is never changed, so that it is safe to repeat, also after it was interrupted; a line "
      "that is refused is named, and the exit status is 1. With --json each line's outcome.\n"
      "\n  run-recorder --control /run/old/control.sock export | run-recorder import");
  imported->callback([&] { request.run = [&] { return import_from_input(context(request)); }; });
}

void declare_doctor(CLI::App& app, Request& request) {
  CLI::App* doctor = app.add_subcommand("doctor", "Check this installation, and say what to do about each finding");
  doctor->footer(
      "Looks at configuration, sockets, permissions, daemon, database, queue, spool, disk and clock; also without a "
      "running daemon. Best as root or as the daemon's user. Ends with 0 when all is fine, 1 when something is not.");
  doctor->callback([&] { request.run = [&] { return examine_installation(request); }; });
}

// Everything behind the first "--" of `exec` is the command, whatever it looks like.
std::vector<std::string> take_command(std::vector<std::string>& arguments) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  if (dashes == arguments.end() || std::find(arguments.begin(), dashes, "exec") == dashes) return {};
  std::vector<std::string> command(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return command;
}

// Why no command was found among the arguments: what follows a flag that is not known may be its value.
std::string missing_command(const CLI::App& app, const std::vector<std::string>& given) {
  for (const std::string& one : given) {
    if (!one.starts_with('-')) return "there is no command " + argument_for_message(one);
    if (app.get_option_no_throw(one.substr(0, one.find('='))) == nullptr) {
      return "unknown argument " + argument_for_message(one);
    }
  }
  return "a command is needed";
}

int parse_and_run(CLI::App& app, Request& request, std::vector<std::string> arguments) {
  const std::vector<std::string> given = arguments;
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& success) {
    app.exit(success);
    return kExitDone;
  } catch (const CLI::RequiredError& error) {
    const bool no_command = app.get_subcommands().empty();
    complain((no_command ? missing_command(app, given) : error.what()) + "\nRun with --help for what there is.");
    return kExitUsage;
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> unknown = app.remaining(true);
    complain("unknown argument " + (unknown.empty() ? "" : argument_for_message(unknown.front())) +
             "\nRun with --help for what is allowed.");
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    complain(without_arguments_passwords(error.what(), given) + "\nRun with --help for what is allowed.");
    return kExitUsage;
  }
  return request.run ? request.run() : kExitUsage;
}

}  // namespace

int run_command_line(std::vector<std::string> arguments) {
  // For the widths of characters; words and numbers stay as they are everywhere.
  std::setlocale(LC_CTYPE, "C.UTF-8");
  Request request;
  Commands all;
  request.environment = environment_of(environ);
  all.exec.command = take_command(arguments);
  auto flags = take_config_flags(arguments);
  if (!flags) throw StartError(kExitUsage, flags.error().message);
  request.config_flags = std::move(*flags);

  CLI::App app("Send events to run-recorderd, wrap commands, look at runs, ask for a reconciliation.",
               "run-recorder");
  app.set_version_flag("--version", "run-recorder " RR_VERSION);
  app.formatter(std::make_shared<Formatter>());
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--socket", request.socket, "The daemon's event socket")->type_name("PATH");
  app.add_option("--control", request.control, "The daemon's control socket")->type_name("PATH");
  app.add_flag("--json", request.json, "The daemon's own objects, one a line, instead of tables");
  app.footer(
      "--config FILE and --section-key VALUE work as with run-recorderd. Exit status: 0 done, 2 usage, 78 "
      "configuration, 69 the daemon (or its database) is away, 1 anything else.");
  declare_emit(app, request, all.emit);
  declare_exec(app, request, all.exec);
  declare_list(app, request, all);
  declare_about_runs(app, request, all);
  declare_watching(app, request, all);
  declare_reconcile(app, request, all);
  declare_prune(app, request, all.prune);
  declare_dead_letters(app, request, all);
  declare_spool(app, request, all);
  declare_moving(app, request, all);
  declare_doctor(app, request);
  return parse_and_run(app, request, std::move(arguments));
}

}  // namespace run_recorder
