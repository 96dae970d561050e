#include "parts.h"

#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "base/url.h"
#include "base/utf8.h"
#include "spool/file_system.h"

namespace run_recorder {
namespace {

std::string host_name(const Config& config) {
  if (!config.daemon.host.empty()) return config.daemon.host;
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? replace_invalid_utf8(name) : "unknown";
}

void log_opening(const SpoolOpening& opening, const Config& config) {
  if (opening.created) log_info("created a new spool", {{"PATH", config.spool.path}});
  if (opening.torn_bytes > 0) {
    log_warning("truncated a torn record at the end of the spool: it had not been acknowledged",
                {{"BYTES", opening.torn_bytes}, {"PATH", config.spool.path}});
  }
  for (const std::string& what : opening.set_aside)
    log_error("damaged or foreign data in the spool was set aside", {{"WHAT", what}});
  if (opening.damaged_records > 0) {
    log_warning("events are missing from the spool; those missing from the database too become dead letters",
                {{"EVENTS", opening.damaged_records}, {"PATH", config.spool.path}});
  }
  if (!opening.other_machines.empty()) {
    log_warning(
        "the spool comes from another machine, using a new recorder id; to keep the id of a spool moved on "
        "purpose, run run-recorderd --adopt-spool before the first start",
        {{"PATH", config.spool.path}, {"OLD", opening.other_machines}});
  }
}

}  // namespace

StoreOptions store_options_of(const Config& config) {
  StoreOptions options;
  options.url = config.database.connection_url();
  options.table_prefix = config.database.table_prefix;
  return options;
}

QueueOptions queue_options_of(const Config& config, const Config::Queue& queue) {
  QueueOptions options;
  options.url = config.connection_url_of(queue);
  options.table = queue.full_table();
  options.clock_skew = queue.clock_skew;
  return options;
}

NamedQueues open_queues(const Config& config, std::chrono::milliseconds deadline) {
  NamedQueues queues;
  for (const auto& [name, queue] : config.configured_queues()) {
    QueueOptions options = queue_options_of(config, queue);
    options.deadline = deadline;
    queues.push_back({name, make_oban_queue(options)});
  }
  return queues;
}

std::unique_ptr<Spool> open_spool(const Config& config) {
  SpoolOptions options;
  options.path = config.spool.path;
  options.max_bytes = config.spool.max_bytes;
  options.min_free = config.spool.min_free;
  options.keep = config.spool.keep;
  SpoolOpening opening;
  auto spool = Spool::open(options, opening);
  if (!spool) {
    const bool needed = spool.error().kind == ErrorKind::kConflict || spool.error().kind == ErrorKind::kDenied;
    throw StartError(needed ? kExitNotThere : kExitOther, "spool: " + spool.error().message);
  }
  log_opening(opening, config);
  if (const auto weak = weak_file_system(config.spool.path)) {
    log_warning("the spool is on a file system that cannot keep what it promises",
                {{"PATH", config.spool.path}, {"FILE_SYSTEM", weak->type}, {"WHY", weak->loses}});
  }
  return std::move(spool.value());
}

std::optional<SqliteFileLock> claim_database(const Config& config) {
  if (database_kind(config.database.url) != DatabaseKind::kSqlite) return std::nullopt;
  const std::string path = sqlite_path(config.database.url);
  // The state folder may be made; one that somebody named may be mistyped.
  const auto folder = config.database.url_given ? check_sqlite_folder(path)
                                                : make_directories(std::filesystem::path(path).parent_path(), 0700);
  if (!folder) throw StartError(kExitNotThere, "database: " + folder.error().message);
  auto lock = SqliteFileLock::acquire(path);
  if (lock) return std::move(lock.value());
  const bool held = lock.error().kind == ErrorKind::kConflict;
  throw StartError(held ? kExitNotThere : kExitOther, "database: " + lock.error().message);
}

std::unique_ptr<Recorder> make_recorder(const Config& config, Spool& spool, bool with_queues) {
  RecorderOptions options;
  options.store = store_options_of(config);
  options.migrate = config.database.migrate;
  options.host = host_name(config);
  if (database_kind(config.database.url) == DatabaseKind::kSqlite) {
    // Several events of a run in one batch save SQLite less than PostgreSQL, and a large one costs as much memory.
    options.batch_events /= 2;
    options.batch_bytes /= 2;
  }
  options.version = RR_VERSION;
  options.heartbeat =
      std::min(options.heartbeat, std::max(config.reconcile.recorder_timeout / 4, std::chrono::milliseconds{100}));
  return std::make_unique<Recorder>(
      std::move(options), spool, with_queues ? open_queues(config, std::chrono::milliseconds{1'000}) : NamedQueues());
}

}  // namespace run_recorder
