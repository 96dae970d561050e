#include "service.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/log.h"
#include "base/url.h"
#include "control/metrics.h"
#include "database/process_deadline.h"
#include "file_limit.h"
#include "parts.h"
#include "service_manager.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kAnswerWithin{10};  // of a call to the database for a request: somebody waits
constexpr milliseconds kTick{1'000};

// For opening the spool: its newest segment is read, from a disk that may be slow.
constexpr std::chrono::minutes kOpeningTime{5};

ServerLimits limits_of(const Config& config) {
  return {config.limits, TypeFilter(config.events.exclude, config.events.include), config.socket.allow_users,
          config.socket.allow_groups};
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

Service::Service(Config config, ConfigSources sources)
    : config_(std::move(config)),
      sources_(std::move(sources)),
      shown_database_url_(redact_url(config_.database.url)),
      spool_path_(std::filesystem::absolute(config_.spool.path).string()),
      started_at_(now_utc()),
      stuck_(LogLevel::kError, "a thread makes no progress, the watchdog is not notified",
             "all threads make progress again"),
      event_socket_(config_.socket.path,
                    "the event socket was deleted or replaced, nobody can connect to it; restart the daemon",
                    "the event socket is back"),
      control_socket_(config_.control.path,
                      "the control socket was deleted or replaced, nobody can connect to it; restart the daemon",
                      "the control socket is back"),
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
    observe_listening();
    check_files();
    tell_service_manager(signals);
  }
}

// Since when events are accepted without a break. Safe from any thread.
Listening::State Service::observe_listening() {
  const ServerCounters counters = server_->counters();
  return listening_->observe(Listening::Moment::now(), {!counters.spool_failure.empty(), counters.refused_by_spool});
}

// Once a second, so that an idle daemon notices too that its files are gone. Only what is new is said.
void Service::check_files() {
  event_socket_.check();
  control_socket_.check();
  const FilesCheck check = spool_->check_files();
  if (!check.repaired.empty()) log_warning(check.repaired);
  if (!check.failed.empty()) log_error("the spool can no longer be used: " + check.failed);
}

// ---- starting: each step may use what those before it made

void Service::start() {
  notify_extend_timeout(kOpeningTime);
  notify_status("opening the spool");
  spool_ = open_spool(config_);
  if (auto lock = claim_database(config_)) database_lock_.emplace(std::move(*lock));
  recorder_ = make_recorder(config_, *spool_, true);
  const std::size_t watched_processes = room_for_processes(descriptors_for(config_.limits.connections));
  watch_ = make_watch(watched_processes);
  server_ = make_server(watched_processes);
  reconciler_ = make_reconciler();
  pruner_ = make_pruner();
  expectations_ = make_expectations();
  api_ = make_api();
  http_ = make_http();
  start_threads();
  check_files();          // what it compares with later
  server_->acceptance();  // said before the first event meets it
  log_info("run-recorderd accepts events", {{"VERSION", RR_VERSION},
                                            {"SOCKET", config_.socket.path},
                                            {"CONTROL", config_.control.path},
                                            {"DATABASE", shown_database_url_},
                                            {"SPOOL", config_.spool.path},
                                            {"WAITING", recorder_->status().waiting}});
  notify_ready(status_sentence(snapshot()));
}

std::unique_ptr<ProcessWatch> Service::make_watch(std::size_t most) {
  return std::make_unique<ProcessWatch>(most, [this](const ProcessIdentity& ended) { on_process_end(ended); });
}

std::unique_ptr<EventServer> Service::make_server(std::size_t watched_processes) {
  ServerOptions options;
  options.path = config_.socket.path;
  options.mode = config_.socket.mode;
  options.group = config_.socket.group;
  options.listen_fd = inherited_socket();
  options.limits = limits_of(config_);
  options.other_descriptors = watched_processes;
  options.on_connection_end = [this](const ProcessIdentity& sender, const std::string& connection) {
    on_connection_end(sender, connection);
  };
  options.why_events_wait = [this] { return why_events_wait(); };
  return std::make_unique<EventServer>(std::move(options), *spool_, now_utc,
                                       [this](std::vector<Accepted>&& events) { accept(std::move(events)); });
}

std::unique_ptr<Reconciler> Service::make_reconciler() {
  ReconcilerOptions options;
  options.policy = config_.reconcile;
  options.store = store_options_of(config_);
  if (!config_.configured_queues().empty()) {
    options.make_queue = [config = config_] { return make_queues(open_queues(config, milliseconds{5'000})); };
  }
  options.connection_open = [this](std::string_view connection) { return server_->connection_open(connection); };
  options.read_barrier = [this](milliseconds within) { return server_->settle_pending(within); };
  options.watch = [this](const ProcessIdentity& process) { watch_->watch(process); };
  options.listening = [this] { return observe_listening(); };
  return std::make_unique<Reconciler>(std::move(options), *recorder_);
}

std::unique_ptr<Pruner> Service::make_pruner() {
  PrunerOptions options;
  options.policy = config_.retention;
  options.store = store_options_of(config_);
  return std::make_unique<Pruner>(std::move(options), *recorder_);
}

std::unique_ptr<ExpectationWatch> Service::make_expectations() {
  ExpectationWatchOptions options;
  options.policy = config_.expect;
  options.grace = config_.reconcile.grace;
  options.store = store_options_of(config_);
  options.accepting_since = [this] { return observe_listening().since; };
  return std::make_unique<ExpectationWatch>(std::move(options), *recorder_);
}

std::unique_ptr<Api> Service::make_api() {
  ApiOptions options;
  options.store = store_options_of(config_);
  options.store.deadline = kAnswerWithin;
  options.status = [this] { return status_json(snapshot()); };
  options.metrics = [this] {
    Snapshot now = snapshot();
    now.usage = own_usage();
    return metrics_text(now);
  };
  options.acceptance = [this] { return server_->acceptance(); };
  options.expected = [this] { return expectations_->expected(); };
  return std::make_unique<Api>(std::move(options), *recorder_, *reconciler_, *pruner_);
}

std::unique_ptr<HttpServer> Service::make_http() {
  HttpOptions options{config_.control.path, config_.control.mode, config_.control.group, config_.metrics.listen,
                      std::max(HttpOptions().import_bytes, 8 * config_.limits.line_bytes)};
  return std::make_unique<HttpServer>(
      std::move(options), [this](const ApiRequest& request) { return api_->answer(request); }, traits_of);
}

// The sockets first: a path that is taken ends the start before anything is touched.
void Service::start_threads() {
  listening_.emplace(Listening::Moment::now());
  http_->start();
  server_->start();
  recorder_->start();
  reconciler_->start();
  pruner_->start();
  expectations_->start();
}

// ---- what other threads call

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

// On several threads.
std::string Service::why_events_wait() const {
  const DatabaseStatus database = recorder_->database();
  const std::string since = database.since ? " since " + format_rfc3339(*database.since) : "";
  switch (database.state) {
    case DatabaseState::kUp:
      return {};
    case DatabaseState::kConnecting:
      return "the database has not been reached yet";
    case DatabaseState::kAway:
      return "the database is away" + since;
    case DatabaseState::kRefused:
      return "the database refuses this daemon" + since;
  }
  return {};
}

// ---- the main thread

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
  expectations_->stop();
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
    std::vector<std::string> problems;
    for (const ConfigProblem& problem : loaded.error().all) problems.push_back(problem.text());
    refuse_reload(problems);
  } else if (const auto done = take_over(loaded.value()); !done) {
    refuse_reload({done.error().message});
  }
  told_ = status_sentence(snapshot());
  notify_ready(told_);
}

// Changes nothing when it fails.
Result<void> Service::take_over(const Config& loaded) {
  const ConfigDifference difference = diff_config(config_, loaded);
  const Config changed = with_reloadable(config_, loaded);
  if (auto done = server_->reconfigure(limits_of(changed)); !done) return done;
  reconciler_->reconfigure(changed.reconcile);
  pruner_->reconfigure(changed.retention);
  expectations_->reconfigure(changed.expect, changed.reconcile.grace);
  spool_->set_limits(changed.spool.max_bytes, changed.spool.min_free, changed.spool.keep);
  warn_of_kept(config_.spool, changed.spool);
  set_up_log(changed.log_options());
  config_ = changed;
  {
    const MutexLock lock(reload_mutex_);
    reload_refused_.clear();
  }
  log_info("reloaded",
           {{"CHANGED", difference.reloadable.empty() ? std::string("nothing") : joined(difference.reloadable)}});
  if (!difference.need_restart.empty()) {
    log_warning("some changes need a restart", {{"KEYS", joined(difference.need_restart)}});
  }
  return {};
}

// With what is kept goes what a database that forgot commits would get again.
void Service::warn_of_kept(const Config::Spool& before, const Config::Spool& after) const {
  if (after.min_free <= before.min_free && after.max_bytes >= before.max_bytes) return;
  const SpoolRoom room = spool_->room();
  const std::string_view limit = limit_of_kept(room);
  if (limit.empty()) return;
  log_warning("applied events leave the spool before [spool] keep has passed, for the new limits",
              {{"LIMIT", limit},
               {"KEPT_BYTES", room.releasable_bytes},
               {"WAITING_BYTES", room.pending_bytes},
               {"MAX_BYTES", room.max_bytes},
               {"MIN_FREE", room.min_free},
               {"FREE_BYTES", room.free_bytes.value_or(0)}});
}

// The log has every mistake; the sentence for the service manager, until a reload succeeds, the first.
void Service::refuse_reload(const std::vector<std::string>& problems) {
  for (const std::string& problem : problems) {
    log_error("reload refused, nothing was changed", {{"PROBLEM", problem}});
  }
  const MutexLock lock(reload_mutex_);
  reload_refused_ = problems.front();
  if (problems.size() > 1) reload_refused_ += fmt::format(" (and {} more)", problems.size() - 1);
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
  require(!expectations_->stuck(), "expectations");
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
  snapshot.expectations = expectations_->status();
  snapshot.server = server_->counters();
  snapshot.processes = watch_->counts();
  snapshot.http = http_->counters();
  snapshot.log = log_health();
  snapshot.spool = spool_->usage();
  snapshot.acceptance = server_->acceptance();
  {
    const MutexLock lock(reload_mutex_);
    snapshot.reload_refused = reload_refused_;
  }
  snapshot.spool_path = spool_path_;
  snapshot.oldest_waiting = oldest_waiting_.since(snapshot.spool, snapshot.now);
  return snapshot;
}

}  // namespace run_recorder
