// How the daemon is, at one moment: as the object of /v1/status and as a sentence for the service manager (as
// Prometheus metrics: metrics.h). Pure functions of the numbers.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/json_text.h"
#include "base/log.h"
#include "control/http_server.h"
#include "expect/expectation_watch.h"
#include "process/own_usage.h"
#include "process/process_watch.h"
#include "reconcile/reconciler.h"
#include "recorder/recorder.h"
#include "retention/pruner.h"
#include "server/server.h"
#include "spool/spool.h"

namespace run_recorder {

struct Snapshot {
  std::string version;
  std::string recorder_id;
  std::string host;
  int pid = 0;
  Timestamp started_at{};
  Timestamp now{};
  std::string database_url;  // redacted
  RecorderStatus recorder;
  ReconcilerStatus reconciler;
  PrunerStatus pruner;
  ExpectationStatus expectations;
  ServerCounters server;
  ProcessWatch::Counts processes;
  HttpCounters http;
  LogHealth log;
  SpoolUsage spool;
  Acceptance acceptance;
  std::optional<OwnUsage> usage;  // for the metrics only: reading it takes a moment
  std::string reload_refused;     // the last reload was refused: why
  std::string spool_path;         // absolute
  std::optional<Timestamp>
      oldest_waiting;  // when the oldest event not applied yet was received, to ten seconds or so
};

JsonText status_json(const Snapshot& snapshot);
// "ingesting; 0 in spool; last reconciliation 3 min ago: 2 stuck"
std::string status_sentence(const Snapshot& snapshot);

}  // namespace run_recorder
