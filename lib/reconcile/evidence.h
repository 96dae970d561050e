// What can be found out about a row: its processes, its connection, its job, its recorder. I/O (system calls, the
// queue) happens here; the judgement is reconcile/verdict.h's. For one thread.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/policies.h"
#include "process/gone_since.h"
#include "queue/queue.h"
#include "reconcile/verdict.h"
#include "store/store.h"

namespace run_recorder {

struct EvidenceOptions {
  std::function<std::chrono::steady_clock::time_point()> clock = std::chrono::steady_clock::now;
  std::string recorder;     // this one
  std::string incarnation;  // its present one
  std::chrono::milliseconds grace = ReconcilePolicy{}.grace;
  std::chrono::milliseconds recorder_timeout = ReconcilePolicy{}.recorder_timeout;
  // Since when other recorders could have been seen at all: the server's start, or the end of an outage. Empty:
  // always.
  std::optional<std::chrono::milliseconds> could_be_seen_for;
  // Rows whose last event lies ahead of the database's clock are older than the grace all the same.
  bool future_is_old = false;
  std::function<bool(std::string_view)> connection_open;
  // Whether a run gave a heartbeat after then, also one that the recorder has not written. May be empty.
  std::function<bool(const std::string&, std::chrono::steady_clock::time_point)> beat_since;
  // A worker was seen alive. May be empty.
  std::function<void(const std::string&)> on_living_worker;
  GoneSince* gone = nullptr;
};

// Facts for a page of rows, in their order, the queue is asked once for all of them. queue may be null: none is
// configured.
class EvidenceGatherer {
 public:
  EvidenceGatherer(EvidenceOptions options, JobQueue* queue) : options_(std::move(options)), queue_(queue) {}
  std::vector<RowFacts> gather(std::span<const RunningRow> rows);
  // What holds for each row of a group at least: as if it had been silent for ever. Whatever is alive by these facts
  // is so by its own.
  RowFacts gather(const RunningGroup& group);

 private:
  RowFacts facts_of(const RunningRow& row);
  void check_processes(const Run& run, RowFacts& facts);
  ProcessEvidence check(const std::string& identity);

  const EvidenceOptions options_;
  JobQueue* const queue_;
  std::unordered_map<std::string, ProcessEvidence> checked_;  // of this pass; bounded
};

// The evidence as JSON, for the row's error object.
JsonText evidence_json(const RowFacts& facts, const RunningRow& row);

}  // namespace run_recorder
