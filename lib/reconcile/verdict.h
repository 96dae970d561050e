// Reconciliation's rules (contract section 6), pure: facts in, a verdict out. No I/O, thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/policies.h"
#include "process/identity.h"
#include "queue/queue.h"
#include "run/run.h"

namespace run_recorder {

enum class VerdictKind { kAlive, kStuck, kUnknown, kForeign, kDeferred, kRaced };
std::string_view to_string(VerdictKind kind);

struct RowFacts {
  Status status = Status::kRunning;
  bool too_young = false;            // its last event was applied less than the grace ago
  bool other_recorder = false;       // a recorder other than this one wrote it last
  bool other_recorder_seen = false;  // and it was seen within recorder_timeout
  bool dead_letter = false;          // an event of this run is a dead letter
  bool received_here = false;        // this incarnation of the daemon received its latest event
  bool worker_named = false;
  ProcessEvidence worker = ProcessEvidence::kNone;
  ProcessEvidence sender = ProcessEvidence::kNone;
  bool connection_open = false;
  // Since the worker was first seen gone, where that matters: while whoever may tell lives. Empty: long ago.
  std::optional<std::chrono::milliseconds> worker_gone_for;
  std::string worker_text;  // what was seen of the worker, in words; may be empty
  std::string sender_text;
  std::string recorder;  // the recorder that wrote it last, for the message
  bool queue_configured = false;
  std::optional<std::string> job_id;  // the job's id in its queue
  std::optional<JobAnswer> job;       // asked for where job_id and queue_configured
  std::optional<std::chrono::seconds> expires_in;
  std::chrono::milliseconds silence{};  // since its last event was applied
};

// What a pass judges by.
struct Rules {
  bool boot = false;       // the boot pass: rule 5 is final for what this incarnation did not receive
  bool unvouched = false;  // as asked for: rule 5 is final
  ReconcilePolicy policy{};
  // How long the daemon accepts events without a break.
  std::chrono::milliseconds listening_for = std::chrono::milliseconds::max();
};

// One rule's answer, for explain.
struct RuleAnswer {
  int rule = 0;                        // 1 … 5 as in contract section 6; 0: the dead-letter rule
  std::string_view name;               // recorder, dead_letter, worker_process, queue, sender, nobody
  std::optional<VerdictKind> verdict;  // empty: it does not decide
  std::string_view reason;             // as process_gone; empty for alive
  std::string detail;                  // the evidence in words
};

struct Verdict {
  VerdictKind kind = VerdictKind::kUnknown;
  std::string_view reason;        // process_gone, queue_unavailable, …; "foreign"; empty for alive
  std::string message;            // a sentence with the evidence
  std::vector<RuleAnswer> rules;  // kAll: what each rule says; the first that decides is the verdict
};

enum class AskedRules {
  kAll,           // for explain
  kUntilDecided,  // for a pass, which may judge a million rows
};

// Every reason that a row which is not alive may have in a report, in the order of the alphabet.
inline constexpr auto kReasons = std::to_array<std::string_view>(
    {"attempt_superseded", "dead_letter", "foreign", "heartbeat_expired", "no_evidence", "no_live_worker", "no_queue",
     "process_gone", "queue_heartbeat_expired", "queue_not_executing", "queue_row_absent", "queue_unavailable",
     "raced", "recorder_gone", "sender_gone", "silent", "terminal_event_lost"});

// Of a running row, or a queued one that names a job.
Verdict judge(const RowFacts& facts, const Rules& rules, AskedRules asked = AskedRules::kAll);
// Nobody is left who could speak for the run: its worker, where one was named, and its latest sender are known to be
// gone, and that connection is closed.
bool nobody_can_report(const RowFacts& facts);

}  // namespace run_recorder
