#include "service.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "base/url.h"
#include "control/metrics.h"
#include "database/process_deadline.h"
#include "file_limit.h"
#include "service_manager.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kAnswerWithin{10};  // of a call to the database for a request: somebody waits
constexpr milliseconds kTick{1'000};

// For opening the spool: its newest segment is read, from a disk that may be slow.
constexpr std::chrono::minutes kOpeningTime{5};

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

ServerLimits limits_of(const Config& config) {
  ServerLimits limits;
  limits.line_bytes = config.limits.line_bytes;
  limits.depth = config.limits.depth;
  limits.connections = config.limits.connections;
  limits.filter = TypeFilter(config.events.exclude, config.events.include);
  limits.allow_users = config.socket.allow_users;
  limits.allow_groups = config.socket.allow_groups;
  return limits;
}

NamedQueues open_queues(const Config& config, milliseconds deadline) {
  NamedQueues queues;
  for (const auto& [name, queue] : config.configured_queues()) {
    QueueOptions options = queue_options_of(config, queue);
    options.deadline = deadline;
    queues.push_back({name, make_oban_queue(options)});
  }
  return queues;
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

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
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
  return std::move(spool.value());
}

std::optional<SqliteFileLock> claim_database(const Config& config) {
  if (database_kind(config.database.url) != DatabaseKind::kSqlite) return std::nullopt;
  auto lock = SqliteFileLock::acquire(sqlite_path(config.database.url));
  if (lock) return std::move(lock.value());
  const bool held = lock.error().kind == ErrorKind::kConflict;
  throw StartError(held ? kExitNotThere : kExitOther, "database: " + lock.error().message);
}

std::unique_ptr<Recorder> make_recorder(const Config& config, Spool& spool, bool with_queues) {
  RecorderOptions options;
  options.store = store_options_of(config);
  options.migrate = config.database.migrate;
  options.host = host_name();
  if (database_kind(config.database.url) == DatabaseKind::kSqlite) {
    // Several events of a run in one batch save SQLite less than PostgreSQL, and a large one costs as much memory.
    options.batch_events /= 2;
    options.batch_bytes /= 2;
  }
  options.version = RR_VERSION;
  options.heartbeat = std::min(options.heartbeat, std::max(config.reconcile.recorder_timeout / 4, milliseconds{100}));
  return std::make_unique<Recorder>(std::move(options), spool,
                                    with_queues ? open_queues(config, milliseconds{1'000}) : NamedQueues());
}

Service::Service(Config config, ConfigSources sources)
    : config_(std::move(config)),
      sources_(std::move(sources)),
      shown_database_url_(redact_url(config_.database.url)),
      started_at_(now_utc()),
      stuck_(LogLevel::kError, "a thread makes no progress, the watchdog is not notified",
             "all threads make progress again"),
      event_socket_(config_.socket.path,
                    "the event socket was deleted or replaced, nobody can connect to it; restart the daemon",
                    "the event socket is back"),
      control_socket_(config_.control.path,
                      "the control socket was deleted or replaced, nobody can connect to it; restart the daemon",
                      "the control socket is back"),
      spool_max_bytes_(config_.spool.max_bytes),
      oldest_waiting_(read_received_at(config_.spool.path)) {}

Service::~Service() {
  if (watch_) watch_->stop();
}

int Service::run(Signals& signals) {
  start();
  while (true) {
    switch (signals.wait(kTick)) {
      case Signals::Wake::kStop:
        return stop();
      case Signals::Wake::kReload:
        reload();
        break;
      case Signals::Wake::kTimeout:
        break;
    }
    look_at_hearing();
    look_at_files();
    tell_service_manager(signals);
  }
}

// Since when events are accepted without a break. Safe from any thread.
Hearing::State Service::look_at_hearing() {
  const ServerCounters counters = server_->counters();
  return hearing_->observe(Hearing::Moment::now(), {!counters.spool_failure.empty(), counters.refused_by_spool});
}

// Once a second, so that an idle daemon notices too that its files are gone. Only what is new is said.
void Service::look_at_files() {
  event_socket_.look();
  control_socket_.look();
  const FilesCheck check = spool_->check_files();
  if (!check.repaired.empty()) log_warning(check.repaired);
  if (!check.failed.empty()) log_error("the spool can no longer be used: " + check.failed);
}

void Service::start() {
  notify_extend_timeout(kOpeningTime);
  notify_status("opening the spool");
  spool_ = open_spool(config_);
  if (auto lock = claim_database(config_)) database_lock_.emplace(std::move(*lock));
  recorder_ = make_recorder(config_, *spool_, true);

  const std::size_t watched_processes = start_watch();
  server_ = std::make_unique<EventServer>(server_options(watched_processes), *spool_, now_utc,
                                          [this](std::vector<Accepted>&& events) { accept(std::move(events)); });

  ReconcilerOptions reconciler;
  reconciler.policy = config_.reconcile;
  reconciler.store = store_options_of(config_);
  if (!config_.configured_queues().empty()) {
    reconciler.make_queue = [config = config_] { return make_queues(open_queues(config, milliseconds{5'000})); };
  }
  reconciler.connection_open = [this](std::string_view connection) { return server_->connection_open(connection); };
  reconciler.hear_all = [this](milliseconds within) { return server_->settle_pending(within); };
  reconciler.watch = [this](const ProcessIdentity& process) { watch_->watch(process); };
  reconciler.hearing = [this] { return look_at_hearing(); };
  reconciler_ = std::make_unique<Reconciler>(std::move(reconciler), *recorder_);

  PrunerOptions pruner;
  pruner.policy = config_.retention;
  pruner.store = store_options_of(config_);
  pruner_ = std::make_unique<Pruner>(std::move(pruner), *recorder_);

  ApiOptions api;
  api.store = store_options_of(config_);
  api.store.deadline = kAnswerWithin;
  api.status = [this] { return status_json(snapshot()); };
  api.metrics = [this] { return metrics_text(snapshot()); };
  api.not_ready = [this] { return not_ready(snapshot()); };
  api_ = std::make_unique<Api>(std::move(api), *recorder_, *reconciler_, *pruner_);
  http_ = std::make_unique<HttpServer>(
      HttpOptions{config_.control.path, config_.control.mode, config_.control.group, config_.metrics.listen,
                  std::max(HttpOptions().import_bytes, 8 * config_.limits.line_bytes)},
      [this](const ApiRequest& request) { return api_->answer(request); }, traits_of);

  // The sockets first: a path that is taken ends the start before anything is touched.
  hearing_.emplace(Hearing::Moment::now());
  http_->start();
  server_->start();
  recorder_->start();
  reconciler_->start();
  pruner_->start();
  look_at_files();  // what it compares with later
  log_info("run-recorderd accepts events", {{"VERSION", RR_VERSION},
                                            {"SOCKET", config_.socket.path},
                                            {"CONTROL", config_.control.path},
                                            {"DATABASE", shown_database_url_},
                                            {"SPOOL", config_.spool.path},
                                            {"WAITING", recorder_->status().waiting}});
  notify_ready(status_sentence(snapshot()));
}

// How many processes it may watch.
std::size_t Service::start_watch() {
  const std::size_t processes = room_for_processes(descriptors_for(config_.limits.connections));
  watch_ = std::make_unique<ProcessWatch>(processes, [this](const ProcessIdentity& ended) { on_process_end(ended); });
  return processes;
}

ServerOptions Service::server_options(std::size_t watched_processes) {
  ServerOptions server;
  server.path = config_.socket.path;
  server.mode = config_.socket.mode;
  server.group = config_.socket.group;
  server.listen_fd = inherited_socket();
  server.limits = limits_of(config_);
  server.other_descriptors = watched_processes;
  server.on_connection_end = [this](const ProcessIdentity& sender, const std::string& connection) {
    on_connection_end(sender, connection);
  };
  return server;
}

// On the thread that appends.
void Service::accept(std::vector<Accepted>&& events) {
  std::vector<SpooledEvent> spooled;
  spooled.reserve(events.size());
  for (Accepted& event : events) {
    watch_->watch(event.event.worker_process);
    spooled.push_back({event.seq, std::move(event.event), event.bytes});
  }
  recorder_->accept(std::move(spooled));
}

// On the watch's thread.
void Service::on_process_end(const ProcessIdentity& identity) {
  reconciler_->process_ended(identity, {});
}

// On the sessions' thread.
void Service::on_connection_end(const ProcessIdentity& sender, const std::string& connection) {
  reconciler_->process_ended(sender, connection);
}

int Service::stop() {
  const milliseconds timeout = config_.daemon.shutdown_timeout;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  const auto left = [&] {
    const auto time = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
    return std::max(time, milliseconds{0});
  };
  log_info("stopping", {{"WAITING", recorder_->status().waiting}});
  notify_stopping("stopping");
  notify_extend_timeout(timeout + std::chrono::seconds{30});
  set_process_deadline(deadline);  // a database that hangs holds up nobody's stop for longer
  server_->stop(left());
  watch_->stop();
  pruner_->stop();
  reconciler_->stop();
  const bool empty = recorder_->stop(left());
  http_->stop();
  const std::uint64_t waiting = recorder_->status().waiting;
  log_info(empty ? "stopped, everything is applied" : "stopped, the rest stays in the spool until the next start",
           {{"WAITING", waiting}});
  return kExitDone;
}

// Takes over what can change while running; of a configuration with any mistake nothing.
void Service::reload() {
  notify_reloading();
  const auto loaded = load_config(sources_);
  if (!loaded) {
    for (const ConfigProblem& problem : loaded.error().all) {
      log_error("reload refused, nothing was changed", {{"PROBLEM", problem.text()}});
    }
    notify_ready(status_sentence(snapshot()));
    return;
  }
  const ConfigDifference difference = diff_config(config_, loaded.value());
  const Config changed = with_reloadable(config_, loaded.value());
  if (const auto done = server_->reconfigure(limits_of(changed)); !done) {
    log_error("reload refused, nothing was changed", {{"PROBLEM", done.error().message}});
    notify_ready(status_sentence(snapshot()));
    return;
  }
  reconciler_->reconfigure(changed.reconcile);
  pruner_->reconfigure(changed.retention);
  spool_->set_limits(changed.spool.max_bytes, changed.spool.min_free, changed.spool.keep);
  spool_max_bytes_ = changed.spool.max_bytes;
  set_up_log(changed.log_options());
  config_ = changed;
  log_info("reloaded",
           {{"CHANGED", difference.reloadable.empty() ? std::string("nothing") : joined(difference.reloadable)}});
  if (!difference.need_restart.empty()) {
    log_warning("some changes need a restart", {{"KEYS", joined(difference.need_restart)}});
  }
  notify_ready(status_sentence(snapshot()));
}

void Service::tell_service_manager(const Signals& signals) {
  oldest_waiting_.check(spool_->usage(), std::chrono::steady_clock::now());
  notify_again();
  const std::string sentence = status_sentence(snapshot());
  if (sentence != told_) {
    notify_status(sentence);
    told_ = sentence;
  }
  if (watchdog_period() && healthy(signals)) notify_watchdog();
}

// Whether every thread makes progress. A heartbeat that stops lets systemd restart the daemon.
bool Service::healthy(const Signals& signals) {
  std::string stuck;
  const auto require = [&stuck](bool progresses, std::string_view thread) {
    if (!progresses) stuck += (stuck.empty() ? "" : ", ") + std::string(thread);
  };
  require(server_->responds(kTick), "sessions");
  require(!server_->writer_stuck(), "spool-writer");
  require(!recorder_->stuck(), "recorder");
  require(!reconciler_->stuck(), "reconciler");
  require(!pruner_->stuck(), "pruner");
  require(http_->responds(kTick), "control");
  require(!signals.stuck(), "signals");
  if (stuck.empty()) {
    stuck_.clear();
  } else {
    stuck_.report(stuck);
  }
  return stuck.empty();
}

Snapshot Service::snapshot() const {
  Snapshot snapshot;
  snapshot.version = RR_VERSION;
  snapshot.recorder_id = spool_->id();
  snapshot.host = recorder_->self().host;
  snapshot.pid = getpid();
  snapshot.started_at = started_at_;
  snapshot.now = now_utc();
  snapshot.database_url = shown_database_url_;
  snapshot.recorder = recorder_->status();
  snapshot.reconciler = reconciler_->status();
  snapshot.pruner = pruner_->status();
  snapshot.server = server_->counters();
  snapshot.processes = watch_->counts();
  snapshot.http = http_->counters();
  snapshot.log = log_health();
  snapshot.spool = spool_->usage();
  snapshot.spool_max_bytes = spool_max_bytes_;
  snapshot.disk_full = spool_->disk_is_full();
  snapshot.oldest_waiting = oldest_waiting_.since(snapshot.spool, snapshot.now);
  return snapshot;
}

}  // namespace run_recorder
