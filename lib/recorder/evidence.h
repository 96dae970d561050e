// What can be found out about a running row: its processes, its connection, its job, its recorder. I/O (system calls,
// the queue) happens here; the judgement is run/verdict.h's. For one thread.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "queue/queue.h"
#include "run/verdict.h"
#include "store/store.h"

namespace run_recorder {

struct EvidenceOptions {
  std::string recorder;  // this one
  std::chrono::milliseconds recorder_timeout{600'000};
  // Since when other recorders could have been seen at all: the server's start, or the end of an outage. Empty:
  // always.
  std::optional<std::chrono::milliseconds> could_be_seen_for;
  std::function<bool(std::string_view)> connection_open;
};

// Facts for a page of rows, in their order, with one look into the queue for all of them. queue may be null: none is
// configured.
class EvidenceGatherer {
 public:
  EvidenceGatherer(EvidenceOptions options, JobQueue* queue) : options_(std::move(options)), queue_(queue) {}
  std::vector<RowFacts> gather(std::span<const RunningRow> rows);

 private:
  RowFacts facts_of(const RunningRow& row);
  ProcessEvidence look(const std::string& identity);

  const EvidenceOptions options_;
  JobQueue* const queue_;
  std::unordered_map<std::string, ProcessEvidence> looks_;  // of this pass; bounded
};

// The evidence as JSON, for the row's error object.
JsonText evidence_json(const RowFacts& facts, const RunningRow& row);

}  // namespace run_recorder
