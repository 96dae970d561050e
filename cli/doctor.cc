// `run-recorder doctor`: looks at an installation from where it stands, with or without a running daemon, and says of
// each thing whether it is fine and what to do where it is not. Returns the exit status: 0 where all is fine, else 1.
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/account.h"
#include "base/file.h"
#include "cli/command.h"
#include "cli/context.h"
#include "cli/event_line.h"
#include "cli/json_object.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "config/config.h"
#include "spool/inspect.h"

namespace run_recorder {
namespace {

struct DoctorOptions {
  LoadedConfig config = ConfigProblems{};  // as the daemon would read it
  std::vector<std::pair<std::string, std::string>> config_flags;
  std::string socket_path;
};

constexpr std::int64_t kLargestClockDifferenceMs = 2'000;

struct Finding {
  std::string check;
  bool fine = true;
  std::string found;
  std::string advice;  // what to do; where it is fine only for a warning
};

class Report {
 public:
  void fine(std::string check, std::string found) { all_.push_back({std::move(check), true, std::move(found), {}}); }
  void wrong(std::string check, std::string found, std::string advice) {
    all_.push_back({std::move(check), false, std::move(found), std::move(advice)});
  }
  // Works, and should not stay so.
  void warning(std::string check, std::string found, std::string advice) {
    all_.push_back({std::move(check), true, std::move(found), std::move(advice)});
  }
  bool all_fine() const {
    return std::ranges::all_of(all_, [](const Finding& finding) { return finding.fine; });
  }
  std::string json() const {
    std::string lines;
    for (const Finding& finding : all_) {
      EventLine line;
      line.text("check", finding.check).json("ok", finding.fine ? "true" : "false").text("found", finding.found);
      if (finding.advice.empty()) {
        line.json("advice", "null");
      } else {
        line.text("advice", finding.advice);
      }
      lines += line.str() + "\n";
    }
    return lines;
  }
  std::string for_people(const Terminal& terminal) const {
    Facts facts(terminal);
    for (const Finding& finding : all_) {
      const bool warns = finding.fine && !finding.advice.empty();
      facts.add(finding.check,
                (warns          ? "warning: "
                 : finding.fine ? "fine: "
                                : "") +
                    finding.found,
                warns          ? Colour::kYellow
                : finding.fine ? Colour::kGreen
                               : Colour::kRed);
      if (!finding.advice.empty()) facts.add("", "→ " + finding.advice, Colour::kBold);
    }
    return facts.render();
  }

 private:
  std::vector<Finding> all_;
};

std::string own_name() {
  return user_name(::geteuid());
}

bool in_group(gid_t group) {
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<std::size_t>(std::max(count, 0)));
  return ::getegid() == group || std::ranges::count(groups, group) > 0;
}

std::string group_name(gid_t group) {
  const struct group* found = ::getgrgid(group);
  return found != nullptr ? found->gr_name : std::to_string(group);
}

// What keeps this user from a socket that is there.
std::string advice_for_denied(const struct stat& status) {
  const std::string group = group_name(status.st_gid);
  const std::vector<gid_t> listed = groups_of(::geteuid());
  if (std::ranges::count(listed, status.st_gid) > 0 && !in_group(status.st_gid)) {
    return fmt::format("{} is in the group {}, but this login began before: log in again", own_name(), group);
  }
  if ((status.st_mode & 0060) == 0060) {
    return fmt::format("become a member: usermod -aG {} {}, then log in again", group, own_name());
  }
  return fmt::format("its mode {:04o} lets only {} in: set mode and group in the configuration",
                     status.st_mode & 0777U, user_name(status.st_uid));
}

// Whether it can be connected to.
bool check_socket(Report& report, const std::string& check, const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    const Error error = system_error_of(path);
    const bool denied = error.kind == ErrorKind::kDenied;
    report.wrong(check, error.message,
                 denied ? "this user may not pass through a folder on the way there: look at their modes"
                        : "the daemon is not running, or its socket is elsewhere: systemctl start run-recorder, or "
                          "name the path in the configuration");
    return false;
  }
  if (!S_ISSOCK(status.st_mode)) {
    report.wrong(check, path + " is no socket", "something else lies there: move it away, then restart the daemon");
    return false;
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    report.wrong(check, path + " is longer than 107 bytes", "configure a shorter path");
    return false;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int problem = errno;
    report.wrong(check, fmt::format("connect to {}: {}", path, errno_words(problem)),
                 problem == EACCES || problem == EPERM ? advice_for_denied(status)
                                                       : "nobody listens: systemctl start run-recorder, then look at "
                                                         "journalctl -u run-recorder");
    return false;
  }
  report.fine(check,
              fmt::format("{}, mode {:04o}, group {}", path, status.st_mode & 0777U, group_name(status.st_gid)));
  return true;
}

// ---- the daemon

std::uint64_t number_of(const JsonObject& object, const char* key) {
  return static_cast<std::uint64_t>(object.integer(key).value_or(0));
}

void check_ledger(Report& report, const JsonObject& status) {
  if (const std::uint64_t letters = number_of(status, "dead_letters"); letters > 0) {
    report.wrong("dead letters", count_of(letters, "event") + " the database refuses",
                 "run-recorder dead-letters list says why; retry them when that is repaired, or delete them");
  } else {
    report.fine("dead letters", "none");
  }
  if (const std::uint64_t forgotten = number_of(status, "forgotten"); forgotten > 0) {
    report.wrong("history", count_of(forgotten, "event") + " forgotten by the database and no longer in the spool",
                 "rows of that time are incomplete; raise [spool] keep above what a failover or a restore goes back");
  }
}

void check_indexes(Report& report, const JsonObject& database) {
  const JsonObject wait = database.object("waiting_for");
  if (wait.members().empty()) return;
  const std::string error = wait.text("error");
  const std::string holder = wait.text("held_up_by");
  report.wrong("indexes",
               fmt::format("{} missing since {}, event ids are {}", wait.text("indexes"), wait.text("since"),
                           wait.text("event_ids")),
               !error.empty()    ? error
               : !holder.empty() ? "they wait for " + holder + ": let it end, or end it"
                                 : "they are being built; nothing is lost meanwhile");
}

// Nobody is told of such a run for as long as silent_after.
void check_last_pass(Report& report, const JsonObject& last) {
  const std::uint64_t gone = number_of(last.object("reasons"), "sender_gone");
  if (gone == 0) return;
  report.warning("senders gone",
                 fmt::format("{} of the last pass live by the queue's word alone: who sent their events is gone",
                             count_of(gone, "run")),
                 "a queue may call a job of a killed node executing for ever: send worker_pid, or expires_in and "
                 "run_heartbeat; run-recorder explain RUN shows what is known of one");
}

// Whether the database is up.
bool check_daemon(Report& report, const Context& context) {
  const Result<ControlAnswer> answer = context.client.get("/v1/status");
  if (!answer) {
    report.wrong("daemon", answer.error().message,
                 answer.error().kind == ErrorKind::kDenied ? "ask as root or as a member of that group"
                                                           : "look at journalctl -u run-recorder");
    return false;
  }
  const JsonObject status(answer->body);
  report.fine("daemon",
              fmt::format("{}, pid {}: {}", status.text("version"), status.text("pid"), status.text("status")));
  const JsonObject spool = status.object("spool");
  if (spool.is_true("failed")) {
    report.wrong("accepting", spool.text("failure"), "look at the disk under the spool, then restart the daemon");
  } else if (const auto ready = context.client.get("/readyz"); !ready) {
    report.wrong("accepting", ready.error().message,
                 "bring the database back, or raise [spool] max_bytes, or free the disk under the spool");
  } else {
    report.fine("accepting", "events are accepted");
  }
  check_ledger(report, status);
  check_last_pass(report, status.object("reconciliation").object("last"));
  const JsonObject database = status.object("database");
  if (database.text("state") != "up") return false;
  report.fine("database", fmt::format("{}, used by the daemon", database.text("url")));
  check_indexes(report, database);
  return true;
}

void check_clock(Report& report, const Context& context) {
  const Result<ControlAnswer> answer = context.client.get("/v1/clock");
  if (!answer) return;  // the database was up a moment ago; its own line says more
  const JsonObject clock(answer->body);
  const std::int64_t difference = clock.integer("difference_ms").value_or(0);
  const std::string words = duration_in_words(std::chrono::milliseconds(difference < 0 ? -difference : difference));
  if (difference > kLargestClockDifferenceMs || difference < -kLargestClockDifferenceMs) {
    report.wrong(
        "clock", fmt::format("this host is {} {} the database", words, difference > 0 ? "ahead of" : "behind"),
        "let both keep their time by NTP (timedatectl); times of events are the hosts', ages the database's");
  } else {
    report.fine("clock", "within 2 s of the database's");
  }
}

// ---- without the daemon

std::string daemon_program() {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  if (!problem) {
    const auto beside = self.parent_path() / "run-recorderd";
    if (::access(beside.c_str(), X_OK) == 0) return beside.string();
  }
  return "run-recorderd";
}

// Our own environment with the flags' settings in it: as flags, their passwords would be seen in the process list.
std::vector<std::string> environment_for_check(const DoctorOptions& options) {
  Environment all = environment_of(environ);
  for (const auto& [flag, value] : options.config_flags) {
    std::string name = "RUN_RECORDER" + flag.substr(1);  // --database-url: RUN_RECORDER_DATABASE_URL
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    all[name] = value;
  }
  std::vector<std::string> lines;
  for (const auto& [name, value] : all) lines.push_back(name + "=" + value);
  return lines;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The lines of `run-recorderd --check`; empty where it cannot be run.
std::vector<std::string> daemons_own_check(const DoctorOptions& options) {
  std::vector<std::string> arguments = {daemon_program(), "--check"};
  std::vector<std::string> environment = environment_for_check(options);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  const std::vector<char*> argv = pointers_to(arguments);
  const std::vector<char*> envp = pointers_to(environment);
  const pid_t child = ::fork();
  if (child < 0) return {};
  if (child == 0) {
    ::dup2(input.get(), STDOUT_FILENO);
    ::dup2(input.get(), STDERR_FILENO);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  input.reset();
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(output.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// What it says of one thing, as "database", "queue" or "queue mailers".
void take_check(Report& report, const std::vector<std::string>& said, const std::string& what,
                const std::string& advice) {
  const auto line = std::ranges::find_if(said, [&](const std::string& one) { return one.starts_with(what + " "); });
  if (line == said.end()) return;
  constexpr std::string_view kFine = "fine: ";
  const std::string words = line->substr(std::min(line->find_first_not_of(' ', what.size()), line->size()));
  if (words.starts_with(kFine)) {
    report.fine(what, words.substr(kFine.size()));
  } else if (words == "none is configured") {
    report.fine(what, words);
  } else {
    report.wrong(what, words, advice);
  }
}

void take_queues(Report& report, const std::vector<std::string>& said, const Config& config) {
  const auto queues = config.configured_queues();
  if (queues.empty()) take_check(report, said, "queue", {});
  for (const auto& [name, queue] : queues) {
    const bool default_one = !config.queues.contains(name);
    take_check(report, said, queue_check_name(config, name),
               fmt::format("without it rows with a job of it stay unknown; repair what it says, or correct [{}]",
                           default_one ? "reconcile.queue" : "queues." + name));
  }
}

// ---- the spool

void check_spool_folder(Report& report, const std::string& path) {
  const auto inspected = inspect_spool(path, InspectionDepth::kHeaders);
  if (!inspected && inspected.error().kind == ErrorKind::kNotFound) {
    report.wrong("spool", inspected.error().message,
                 "the daemon's first start makes it; where it ran before, [spool] path names another folder");
    return;
  }
  if (!inspected) {
    report.wrong("spool", inspected.error().message,
                 inspected.error().kind == ErrorKind::kDenied ? "run this as root or as the daemon's user"
                                                              : "look at what lies there; keep a copy");
    return;
  }
  if (!inspected->is_sound()) {
    std::string problems;
    const auto add = [&problems](const std::vector<std::string>& more) {
      for (const std::string& problem : more) problems += (problems.empty() ? "" : "; ") + problem;
    };
    add(inspected->problems);
    for (const SegmentReport& segment : inspected->segments) add(segment.problems);
    report.wrong("spool", problems.empty() ? path + " is damaged" : problems,
                 "run-recorder spool verify reads every record; check disk and memory");
    return;
  }
  report.fine("spool",
              fmt::format("{}, {} in {}, {}", path, count_of(inspected->records, "event"),
                          count_of(inspected->segments.size(), "segment"), size_in_words(inspected->file_bytes)));
}

void check_disk(Report& report, const Config& config) {
  std::filesystem::path path = config.spool.path;
  std::error_code ignored;
  while (!std::filesystem::exists(path, ignored) && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  struct statvfs disk {};
  if (::statvfs(path.c_str(), &disk) != 0) {
    report.wrong("disk", system_error_of(path.string()).message, "run this as root or as the daemon's user");
    return;
  }
  if ((disk.f_flag & ST_RDONLY) != 0) {
    report.wrong("disk", path.string() + " is on a file system that is mounted read-only",
                 "look at dmesg for why, and mount it writable");
    return;
  }
  const std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  const std::string words = fmt::format("{} free under {}", size_in_words(free), path.string());
  if (free <= config.spool.min_free) {
    report.wrong("disk", fmt::format("{}, and [spool] min_free is {}", words, size_in_words(config.spool.min_free)),
                 "events are refused: free the disk, or lower min_free");
  } else if (free - config.spool.min_free < config.spool.max_bytes / 10) {
    report.wrong("disk", words + ": less than a tenth of [spool] max_bytes above min_free",
                 "free the disk before the database is away for long");
  } else {
    report.fine("disk", words);
  }
}

int examine(const Context& context, const DoctorOptions& options) {
  Report report;
  const bool configured = options.config.has_value();
  if (configured) {
    const Config& config = *options.config;
    report.fine("configuration", config.file.empty() ? "no file, defaults" : config.file);
    for (const std::string& note : config.notes) report.wrong("configuration", note, "run this as root");
    for (const std::string& warning : config.warnings) {
      report.warning("environment", warning, "nothing, where it is a service's; else correct the name");
    }
    for (const ExposedFile& file : exposed_files(config)) report.warning("secrets", file.found, file.advice);
  } else {
    for (const ConfigProblem& problem : options.config.error().all) {
      report.wrong("configuration", problem.text(),
                   problem.unknown_name ? "correct it, or bring up what knows that name; the daemon tries again"
                                        : "correct it; the daemon does not start with it");
    }
  }
  check_socket(report, "event socket", options.socket_path);
  const bool answers = check_socket(report, "control socket", context.client.path());
  const bool database_up = answers && check_daemon(report, context);
  if (configured) {
    const auto said = daemons_own_check(options);
    if (said.empty()) report.wrong("run-recorderd", "it cannot be run", "install it beside run-recorder or in PATH");
    if (!database_up) {
      take_check(report, said, "database",
                 "events wait in the spool meanwhile; repair what it says. run-recorderd --migrate makes the tables, "
                 "and docs/operations.md lists the rights that are needed");
    }
    take_queues(report, said, *options.config);
    check_spool_folder(report, options.config->spool.path);
    check_disk(report, *options.config);
  }
  if (database_up) check_clock(report, context);
  if (context.json) {
    print_json(report.json());
  } else {
    print(report.for_people(terminal_of(1)));
  }
  return report.all_fine() ? kExitDone : kExitOther;
}

// Goes on with a broken configuration, which it reports, and with the usual places then.
int examine_installation(const Invocation& invocation) {
  ConfigSources sources;
  sources.flags = invocation.config_flags;
  sources.environment = invocation.environment;
  sources.uid = ::geteuid();
  DoctorOptions options{load_config(sources), invocation.config_flags, {}};
  const LoadedConfig paths = invocation.load();
  const Config config = paths ? *paths : Config();
  options.socket_path = invocation.socket_path(config);
  return examine({ControlClient(invocation.control_path(config)), invocation.json}, options);
}

}  // namespace

extern const Command kDoctorCommand = {
    "doctor", "Check this installation, and say what to do about each finding",
    [](Flags) { return Handler(examine_installation); },
    "Looks at configuration, sockets, permissions, daemon, database, queue, spool, disk and clock; also without a "
    "running daemon. Best as root or as the daemon's user. Ends with 0 when all is fine, 1 when something is not."};

}  // namespace run_recorder
