#include "service.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "base/url.h"
#include "service_manager.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick{1'000};
// Longer than any call to the database may take: then the recorder's thread is stuck, not slow.
constexpr std::chrono::seconds kStuckThread{60};

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

ReconcilePolicy policy_of(const Config& config) {
  ReconcilePolicy policy;
  policy.grace = config.reconcile.grace;
  policy.interval = config.reconcile.interval;
  policy.silent_after = config.reconcile.silent_after;
  policy.recorder_timeout = config.reconcile.recorder_timeout;
  policy.max_stuck = config.reconcile.max_stuck;
  policy.log_rows = config.reconcile.log_rows;
  return policy;
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

std::unique_ptr<JobQueue> make_queue(const Config& config, milliseconds deadline) {
  if (config.queue.kind == QueueKind::kNone) return nullptr;
  QueueOptions options;
  options.url = config.queue_connection_url();
  options.table = config.queue.table;
  options.deadline = deadline;
  return make_oban_queue(options);
}

void log_opening(const SpoolOpening& opening, const Config& config) {
  if (opening.created) log_info("the spool was made", {{"PATH", config.spool.path}});
  if (opening.torn_bytes > 0) {
    log_warning("the spool's end was torn and has been cut: it had not been acknowledged",
                {{"BYTES", opening.torn_bytes}, {"PATH", config.spool.path}});
  }
  for (const std::string& what : opening.set_aside)
    log_error("something in the spool was set aside", {{"WHAT", what}});
  if (opening.damaged_records > 0) {
    log_error("events in the spool are damaged", {{"EVENTS", opening.damaged_records}, {"PATH", config.spool.path}});
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

std::unique_ptr<Recorder> make_recorder(const Config& config, Spool& spool, bool with_queue) {
  RecorderOptions options;
  options.store = store_options_of(config);
  options.migrate = config.database.migrate;
  options.host = host_name();
  options.version = RR_VERSION;
  options.heartbeat = std::min(options.heartbeat, std::max(config.reconcile.recorder_timeout / 4, milliseconds{100}));
  return std::make_unique<Recorder>(std::move(options), spool,
                                    with_queue ? make_queue(config, milliseconds{1'000}) : nullptr);
}

Service::Service(Config config, ConfigSources sources)
    : config_(std::move(config)),
      sources_(std::move(sources)),
      started_at_(now_utc()),
      spool_max_bytes_(config_.spool.max_bytes) {}

Service::~Service() = default;

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
    tell_service_manager();
  }
}

void Service::start() {
  spool_ = open_spool(config_);
  if (auto lock = claim_database(config_)) database_lock_.emplace(std::move(*lock));
  recorder_ = make_recorder(config_, *spool_, true);

  ServerOptions server;
  server.path = config_.socket.path;
  server.mode = config_.socket.mode;
  server.group = config_.socket.group;
  server.listen_fd = inherited_socket();
  server.limits = limits_of(config_);
  server_ =
      std::make_unique<EventServer>(std::move(server), *spool_, now_utc, [this](std::vector<Accepted>&& events) {
        std::vector<SpooledEvent> spooled;
        spooled.reserve(events.size());
        for (Accepted& event : events) spooled.push_back({event.seq, std::move(event.event), event.bytes});
        recorder_->accept(std::move(spooled));
      });

  ReconcilerOptions reconciler;
  reconciler.policy = policy_of(config_);
  reconciler.store = store_options_of(config_);
  if (config_.queue.kind != QueueKind::kNone) {
    reconciler.make_queue = [config = config_] { return make_queue(config, milliseconds{5'000}); };
  }
  reconciler.connection_open = [this](std::string_view connection) { return server_->connection_open(connection); };
  reconciler_ = std::make_unique<Reconciler>(std::move(reconciler), *recorder_);

  ApiOptions api;
  api.store = store_options_of(config_);
  api.status = [this] { return status_json(snapshot()); };
  api.metrics = [this] { return metrics_text(snapshot()); };
  api.not_ready = [this] { return not_ready(snapshot()); };
  api_ = std::make_unique<Api>(std::move(api), *recorder_, *reconciler_);
  http_ = std::make_unique<HttpServer>(
      HttpOptions{config_.control.path, config_.control.mode, config_.control.group, config_.metrics.listen}, *api_);

  // The sockets first: a path that is taken ends the start before anything is touched.
  http_->start();
  server_->start();
  recorder_->start();
  reconciler_->start();
  log_info("run-recorderd accepts events", {{"VERSION", RR_VERSION},
                                            {"SOCKET", config_.socket.path},
                                            {"CONTROL", config_.control.path},
                                            {"DATABASE", redact_url(config_.database.url)},
                                            {"SPOOL", config_.spool.path},
                                            {"WAITING", recorder_->status().waiting}});
  notify_ready(status_sentence(snapshot()));
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
  server_->stop(left());
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
  reconciler_->reconfigure(policy_of(changed));
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

void Service::tell_service_manager() {
  const std::string sentence = status_sentence(snapshot());
  if (sentence != told_) {
    notify_status(sentence);
    told_ = sentence;
  }
  if (watchdog_period() && healthy()) notify_watchdog();
}

// Whether every thread still turns. A heartbeat that stops lets systemd restart the daemon.
bool Service::healthy() {
  const auto now = std::chrono::steady_clock::now();
  const std::uint64_t turns = recorder_->turns();
  if (turns != turns_seen_ || turned_at_ == std::chrono::steady_clock::time_point{}) {
    turns_seen_ = turns;
    turned_at_ = now;
  }
  return now - turned_at_ < kStuckThread && server_->appending_for() < kStuckThread && server_->responds(kTick);
}

Snapshot Service::snapshot() const {
  Snapshot snapshot;
  snapshot.version = RR_VERSION;
  snapshot.recorder_id = spool_->id();
  snapshot.host = recorder_->self().host;
  snapshot.pid = getpid();
  snapshot.started_at = started_at_;
  snapshot.now = now_utc();
  snapshot.database_url = redact_url(config_.database.url);
  snapshot.recorder = recorder_->status();
  snapshot.reconciler = reconciler_->status();
  snapshot.server = server_->counters();
  snapshot.spool = spool_->usage();
  snapshot.spool_max_bytes = spool_max_bytes_;
  return snapshot;
}

}  // namespace run_recorder
