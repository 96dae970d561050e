// What becomes of events that the database refuses: they are set aside as dead letters, and tried again or removed
// when somebody asks. For the recorder's thread, because the ledger is its.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "recorder/event_decider.h"
#include "recorder/fresh_events.h"
#include "store/store.h"

namespace run_recorder {

// An event as a dead letter. record: its body in the spool; empty where it cannot be read any more.
DeadLetter dead_letter_of(const SpooledEvent& event, std::string record, const std::string& recorder,
                          const Error& error);
// What a decision adds to a write: rows, history and the ledger's counts.
void take_decision(BatchWrite& write, Decision& decision);

class DeadLetterDesk {
 public:
  enum class Retried { kApplied, kDuplicate, kDead };

  // The recorder's side. All of it is there as long as the desk.
  struct Recording {
    std::unique_ptr<Store>& store;  // not null while the desk is called, but after lost()
    const RecorderSelf& self;
    EventDecider& decider;
    std::function<BatchWrite()> place;                     // see SpoolProgress::place()
    std::function<void(const Ledger&)> set_ledger;         // it was committed
    std::function<void(const Error&)> lost;                // gives the connection up
    std::function<bool()> read_checkpoint;                 // false: the connection is given up
    std::function<Result<std::unique_ptr<Store>>()> open;  // another connection
    std::function<void(const Error&)> count;
    std::function<void(const std::vector<Decision::Conflict>&)> log_conflicts;
    std::function<void(std::span<const RunChange>)> count_runs;  // they were committed
  };
  explicit DeadLetterDesk(Recording recording) : at_(std::move(recording)) {}

  // kNotFound, kConflict (another recorder's letter), kUnavailable.
  Result<Retried> retry(std::int64_t id);
  Result<void> remove(std::int64_t id);

 private:
  Result<DeadLetter> find(std::int64_t id);
  Result<std::optional<Retried>> retry_once(const DeadLetter& letter);
  Result<std::optional<Retried>> refused_again(const DeadLetter& letter, const Error& error);
  Error lost(const Error& error);

  Recording at_;
};

}  // namespace run_recorder
