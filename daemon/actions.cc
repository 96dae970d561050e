#include "actions.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "base/file.h"
#include "base/log.h"
#include "base/url.h"
#include "base/utf8.h"
#include "database/process_deadline.h"
#include "parts.h"
#include "queue/queue.h"
#include "spool/file_system.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kProgressEvery{1'000};

void say(std::string_view what, std::string_view how) {
  fmt::print("{:<14} {}\n", what, printable(how));
}

// What does not keep the daemon from starting.
void say_warnings(const Config& config) {
  for (const std::string& warning : config.warnings) say("warning", warning);
  if (!config.no_socket_paths.empty()) say("warning", "to serve, " + config.no_socket_paths);
  for (const ExposedFile& file : exposed_files(config)) say("warning", file.found + "; " + file.advice);
  if (const auto weak = weak_file_system(config.spool.path)) say("warning", weak->words(config.spool.path));
}

int status_of(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kRefused:
    case ErrorKind::kInvalid:
    case ErrorKind::kNotFound:
    case ErrorKind::kDenied:
      return kExitConfiguration;
    default:
      return kExitNotThere;
  }
}

// "no password supplied" is half of the truth for who may not read the one there is.
std::string with_reason(const std::string& message, const Config& config) {
  if (config.password_out_of_reach.empty() || message.find("password") == std::string::npos) return message;
  return fmt::format("{} for it ({}): run this as root; it says: {}", kPasswordOutOfReach,
                     config.password_out_of_reach, message);
}

int check_database(const Config& config) {
  const bool file = database_kind(config.database.url) == DatabaseKind::kSqlite && config.database.url_given;
  if (const auto folder = file ? check_sqlite_folder(sqlite_path(config.database.url)) : Result<void>(); !folder) {
    say("database", folder.error().message);
    return status_of(folder.error());
  }
  const auto verified = migrate(store_options_of(config), true);
  const bool to_be_migrated = !verified && verified.error().kind == ErrorKind::kNotFound && config.database.migrate;
  if (!verified && !to_be_migrated) {
    say("database", with_reason(verified.error().message, config));
    return status_of(verified.error());
  }
  const std::string schema = verified ? fmt::format("schema version {}", verified.value().schema_version)
                                      : fmt::format("to be done at the start: {}", verified.error().message);
  say("database", fmt::format("fine: {}, {}", redact_url(config.database.url), schema));
  return kExitDone;
}

int check_queue(const Config& config, const std::string& name, const Config::Queue& queue) {
  const std::string what = queue_check_name(config, name);
  if (const auto checked = make_oban_queue(queue_options_of(config, queue))->check(); !checked) {
    say(what, with_reason(checked.error().message, config));
    return kExitNotThere;
  }
  say(what, fmt::format("fine: {} in {}", queue.full_table(), config.shown_url_of(queue)));
  return kExitDone;
}

int check_queues(const Config& config) {
  const auto queues = config.configured_queues();
  if (queues.empty()) say("queue", "none is configured");
  int status = kExitDone;
  for (const auto& [name, queue] : queues) status = std::max(status, check_queue(config, name, queue));
  return status;
}

// Empty where a folder can be made in that one; it is made for a moment, since rights alone do not tell (/proc).
std::string problem_of_making_folder(const std::filesystem::path& where) {
  std::string name = (where / ".run-recorder-check-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) return errno_words(errno);
  rmdir(name.c_str());
  return {};
}

int check_missing_spool(const Config& config) {
  const std::filesystem::path path = nearest_existing(std::filesystem::absolute(config.spool.path));
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  const std::string problem = folder ? problem_of_making_folder(path) : "not a folder";
  if (!problem.empty()) {
    say("spool", fmt::format("{} cannot be made: {}: {}", config.spool.path, path.string(), problem));
    return kExitNotThere;
  }
  say("spool", fmt::format("fine: {} (will be made)", config.spool.path));
  return kExitDone;
}

// Only looks: the folder may be in use by a running daemon.
int check_spool(const Config& config) {
  const std::filesystem::path path = config.spool.path;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return check_missing_spool(config);
  if (!std::filesystem::is_directory(path, ignored)) {
    say("spool", fmt::format("{} is not a folder", path.string()));
    return kExitNotThere;
  }
  if (access(path.c_str(), W_OK | X_OK) != 0) {
    say("spool", fmt::format("{}: no permission to write there: {}", path.string(), errno_words(errno)));
    return kExitNotThere;
  }
  say("spool", fmt::format("fine: {}", config.spool.path));
  return kExitDone;
}

// Says nothing where there is enough: below min_free no event is accepted, and below twice as much the daemon warns.
void check_disk(const Config& config) {
  const auto disk = disk_space(config.spool.path);
  if (!disk || disk->free_bytes / 2 >= config.spool.min_free) return;
  say("warning", fmt::format("{} free under {}, [spool] min_free is {}{}", size_in_words(disk->free_bytes),
                             disk->path.string(), size_in_words(config.spool.min_free),
                             disk->free_bytes <= config.spool.min_free ? ": events would be refused" : ""));
}

// A folder that is not there yet is made at the start, and systemd gives the service its own.
void check_socket_folder(const std::string& socket) {
  const std::filesystem::path folder = std::filesystem::absolute(socket).parent_path();
  std::error_code ignored;
  if (folder == SystemPlaces().runtime || !std::filesystem::exists(folder, ignored)) return;
  const std::string problem = problem_of_making_folder(folder);
  if (!problem.empty()) say("warning", fmt::format("{} cannot be made: {}: {}", socket, folder.string(), problem));
}

int check_socket(const std::string& socket, bool given) {
  std::error_code unseen;
  const auto found = std::filesystem::status(socket, unseen);
  if (std::filesystem::exists(found) && !std::filesystem::is_socket(found)) {
    say("socket", socket + ": it exists and is not a socket");
    return kExitNotThere;
  }
  if (given) check_socket_folder(socket);
  return kExitDone;
}

// Says nothing where all files are as they should be.
int check_files(const Config& config) {
  int status = kExitDone;
  for (const WrongFile& file : wrong_files(config, geteuid())) {
    if (file.keeps_from_starting) status = kExitNotThere;
    say(file.keeps_from_starting ? "files" : "warning", file.found + "; " + file.advice);
  }
  return status;
}

}  // namespace

// That it could be loaded is all there is to it.
int check_config(const Config& config) {
  say("configuration", config.file.empty() ? std::string("fine: no file, defaults") : "fine: " + config.file);
  say_warnings(config);
  return kExitDone;
}

int check(const Config& config) {
  check_config(config);
  int database = check_database(config);
  const int others[] = {check_queues(config), check_spool(config)};
  const int files = check_files(config);
  check_disk(config);
  const int sockets[] = {check_socket(config.socket.path, config.socket.path_given),
                         check_socket(config.control.path, config.control.path_given)};
  // Of a SQLite file that cannot be used it is the file that is wrong, as at the start.
  const bool is_file = database_kind(config.database.url) == DatabaseKind::kSqlite;
  if (is_file && database != kExitDone && files != kExitDone) database = files;
  const int statuses[] = {database, others[0], others[1], files, sockets[0], sockets[1]};
  int worst = kExitDone;
  for (const int status : statuses) {
    if (status == kExitConfiguration || worst == kExitDone) worst = status;
  }
  return worst;
}

int migrate_database(const Config& config) {
  const auto lock = claim_database(config);
  auto outcome = std::async(std::launch::async, [&] { return migrate(store_options_of(config), false); });
  const auto began = std::chrono::steady_clock::now();
  while (outcome.wait_for(kProgressEvery) != std::future_status::ready) {
    const auto taken = std::chrono::steady_clock::now() - began;
    fmt::print(stderr, "migrating for {} s\n", std::chrono::duration_cast<std::chrono::seconds>(taken).count());
  }
  const auto report = outcome.get();
  if (!report) {
    fmt::print(stderr, "run-recorderd: database: {}\n", with_reason(report.error().message, config));
    return status_of(report.error());
  }
  for (const std::string& name : report.value().applied) fmt::print("applied {}\n", name);
  fmt::print("the schema is at version {}\n", report.value().schema_version);
  if (!report.value().indexes_left.empty()) {
    fmt::print(stderr, "run-recorderd: indexes are still being built: {}; run it again to wait for them\n",
               report.value().indexes_left);
    return kExitNotThere;
  }
  return kExitDone;
}

int print_migrations(const Config& config) {
  fmt::print("{}", migration_sql(store_options_of(config)));
  return kExitDone;
}

int adopt_spool(const Config& config) {
  const auto adopted = adopt_spool(std::filesystem::path(config.spool.path));
  if (!adopted) {
    fmt::print(stderr, "run-recorderd: spool: {}\n", adopted.error().message);
    const ErrorKind kind = adopted.error().kind;
    const bool not_there = kind == ErrorKind::kConflict || kind == ErrorKind::kDenied || kind == ErrorKind::kNotFound;
    return not_there ? kExitNotThere : kExitOther;
  }
  fmt::print("the spool {} stays recorder {} on this machine, unless another process records under that id\n",
             config.spool.path, adopted.value());
  return kExitDone;
}

int drain(const Config& config, Signals& signals) {
  const auto spool = open_spool(config);
  const auto lock = claim_database(config);
  const auto recorder = make_recorder(config, *spool, true);
  recorder->start();
  const auto give_up = std::chrono::steady_clock::now() + config.daemon.shutdown_timeout;
  auto next_progress = std::chrono::steady_clock::now() + kProgressEvery;
  while (true) {
    const bool applied = recorder->wait_applied(recorder->accepted_seq(), milliseconds{50});
    const RecorderStatus status = recorder->status();
    const auto now = std::chrono::steady_clock::now();
    // Also with an empty spool the database has to say so: it may have forgotten what was applied.
    if (applied && status.database == DatabaseState::kUp) break;
    if (signals.stop_requested()) break;
    if (status.database != DatabaseState::kUp && now >= give_up) break;
    if (now >= next_progress) {
      log_info("draining the spool", {{"WAITING", status.waiting}});
      next_progress = now + kProgressEvery;
    }
  }
  const bool up = recorder->status().database == DatabaseState::kUp;
  set_process_deadline(std::chrono::steady_clock::now() + config.daemon.shutdown_timeout);
  recorder->stop(milliseconds{0});
  const RecorderStatus status = recorder->status();
  if (up && status.waiting == 0) {
    fmt::print("the spool is empty: {} applied, {} duplicate, {} dead letters; {} of them by this drain\n",
               status.ledger.applied, status.ledger.duplicate, status.ledger.dead_letters, status.batch_events);
    return kExitDone;
  }
  log_error("events are left in the spool",
            {{"WAITING", status.waiting}, {"DATABASE_ERROR", with_reason(status.database_error, config)}});
  return up ? kExitOther : kExitNotThere;
}

}  // namespace run_recorder
