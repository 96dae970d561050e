// The running daemon: makes the parts from the configuration, starts them in order, and stops them in the opposite
// one. For the main thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "config/config.h"
#include "control/api.h"
#include "control/http_server.h"
#include "control/snapshot.h"
#include "database/sqlite.h"
#include "expect/expectation_watch.h"
#include "path_watch.h"
#include "process/process_watch.h"
#include "reconcile/reconciler.h"
#include "recorder/oldest_waiting.h"
#include "recorder/recorder.h"
#include "retention/pruner.h"
#include "server/descriptors.h"
#include "server/server.h"
#include "signals.h"
#include "spool/spool.h"

namespace run_recorder {

class Service {
 public:
  Service(Config config, ConfigSources sources);
  ~Service();

  // Returns the exit status when it was told to stop. Throws StartError where it cannot start.
  int run(Signals& signals);

 private:
  void start();
  int stop();
  void reload();
  Result<void> take_over(const Config& loaded);
  // Of the spool, where new limits take from it what is kept.
  void warn_of_kept(const Config::Spool& before, const Config::Spool& after) const;
  void refuse_reload(const std::vector<std::string>& problems);
  std::string why_events_wait() const;
  std::unique_ptr<ProcessWatch> make_watch(std::size_t most);
  std::unique_ptr<EventServer> make_server(std::size_t watched_processes);
  std::unique_ptr<Reconciler> make_reconciler();
  std::unique_ptr<Pruner> make_pruner();
  std::unique_ptr<ExpectationWatch> make_expectations();
  std::unique_ptr<Api> make_api();
  std::unique_ptr<HttpServer> make_http();
  void start_threads();
  void accept(std::vector<Accepted>&& events);
  void on_process_end(const ProcessIdentity& identity);
  void on_connection_end(const ProcessIdentity& sender, const std::string& connection);
  void check_files();
  void tell_service_manager(const Signals& signals);
  bool healthy(const Signals& signals);
  Listening::State observe_listening();
  Snapshot snapshot() const;

  Config config_;
  const ConfigSources sources_;
  const std::string shown_database_url_;  // without its password; for any thread: a reload changes config_
  const std::string spool_path_;          // absolute; for any thread too
  const Timestamp started_at_;
  RepeatGuard stuck_;
  PathWatch event_socket_;
  PathWatch control_socket_;
  std::optional<SqliteFileLock> database_lock_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<ProcessWatch> watch_;  // stopped before what its callback uses goes
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<EventServer> server_;
  std::optional<Listening> listening_;  // from the moment that events are accepted
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<Pruner> pruner_;
  std::unique_ptr<ExpectationWatch> expectations_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<HttpServer> http_;
  std::string told_;  // the last sentence for the service manager
  mutable Mutex reload_mutex_;
  std::string reload_refused_ GUARDED_BY(reload_mutex_);  // why the last one was; empty: it was not
  OldestWaiting oldest_waiting_;
};

}  // namespace run_recorder
