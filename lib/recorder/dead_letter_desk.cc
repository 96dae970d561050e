#include "recorder/dead_letter_desk.h"

#include <fmt/format.h>

#include <utility>

#include "base/utf8.h"
#include "protocol/protocol.h"
#include "recorder/failure.h"

namespace run_recorder {
namespace {

constexpr int kRetriesOfOneLetter = 10;
constexpr std::size_t kDeadLineBytes = 1 << 16;

Error no_such_letter(std::int64_t id) {
  return Error{ErrorKind::kNotFound, fmt::format("there is no dead letter {}", id)};
}

}  // namespace

DeadLetter dead_letter_of(const SpooledEvent& spooled, std::string record, const std::string& recorder,
                          const Error& error) {
  const Event& event = spooled.event;
  DeadLetter letter;
  letter.recorder = recorder;
  letter.run_id = event.run_id;
  letter.type = event.type;
  letter.event_id = event.id;
  letter.sqlstate = error.sqlstate;
  letter.reason = error.message;
  letter.received_at = event.received_at;
  letter.record = std::move(record);
  if (const auto envelope = decode_envelope(letter.record); envelope) {
    letter.line = std::string(utf8_prefix(envelope.value().line, kDeadLineBytes));
  }
  return letter;
}

void take_decision(BatchWrite& write, Decision& decision) {
  write.ledger.applied += decision.applied;
  write.ledger.duplicate += decision.duplicate;
  write.ledger.conflicts += decision.conflicts.size();
  write.runs = std::move(decision.runs);
  write.beats = std::move(decision.beats);
  write.history = std::move(decision.history);
}

Error DeadLetterDesk::lost(const Error& error) {
  at_.lost(error);
  return error;
}

Result<DeadLetter> DeadLetterDesk::find(std::int64_t id) {
  auto found = at_.store->find_dead_letter(id);
  if (!found) return lost(found.error());
  if (!found.value()) return no_such_letter(id);
  DeadLetter& letter = *found.value();
  if (letter.recorder == at_.self.id) return std::move(letter);
  return Error{ErrorKind::kConflict,
               fmt::format("dead letter {} belongs to recorder {}: ask the daemon that has its spool", letter.id,
                           letter.recorder)};
}

Result<DeadLetterDesk::Retried> DeadLetterDesk::retry(std::int64_t id) {
  for (int attempt = 0; attempt < kRetriesOfOneLetter; ++attempt) {
    const auto letter = find(id);
    if (!letter) return letter.error();
    const auto retried = retry_once(letter.value());
    if (!retried) return retried.error();
    if (retried.value()) return *retried.value();
  }
  return Error{ErrorKind::kUnavailable, fmt::format("the run of dead letter {} changes too quickly, try again", id)};
}

// Empty: the row or the letter was not as expected.
Result<std::optional<DeadLetterDesk::Retried>> DeadLetterDesk::retry_once(const DeadLetter& letter) {
  auto event = decode_record(letter.record);
  if (!event) return std::optional(Retried::kDead);
  const std::string run_id = event.value().run_id;
  std::vector<SpooledEvent> events;
  events.push_back({0, std::move(event.value()), letter.record.size()});
  auto decided = at_.decider.decide_each(*at_.store, std::move(events), at_.self.recorded_by(), Lookup::kStored);
  if (!decided) return refused_again(letter, decided.error());
  Decision& decision = decided.value();
  at_.decider.add_job_states(decision);
  BatchWrite write = at_.place();
  --write.ledger.dead_letters;
  take_decision(write, decision);
  write.retried = {letter.id};
  const auto committed = at_.store->commit(at_.self, write);
  at_.decider.forget_row(run_id);
  if (!committed) return refused_again(letter, committed.error());
  if (committed.value() == Committed::kMisplaced && !at_.read_checkpoint()) {
    return Error{ErrorKind::kUnavailable, "the database is away"};
  }
  if (committed.value() != Committed::kYes) return std::optional<Retried>();
  at_.log_conflicts(decision.conflicts);
  at_.count_runs(write.runs);
  at_.set_ledger(write.ledger);
  return std::optional(decision.duplicate > 0 ? Retried::kDuplicate : Retried::kApplied);
}

// A letter that was refused again stays one, whatever of: that needs no proof. What failed by the connection, or by
// time, is noted over a new one; where there is none the database is away.
Result<std::optional<DeadLetterDesk::Retried>> DeadLetterDesk::refused_again(const DeadLetter& letter,
                                                                             const Error& error) {
  if (error.kind == ErrorKind::kInDoubt || cause_of(error) == FailureCause::kDatabase) return lost(error);
  if (cause_of(error) == FailureCause::kMoment) {
    auto store = at_.open();
    if (!store) return lost(store.error());
    at_.store = std::move(store.value());
  }
  at_.count(error);
  const auto noted = at_.store->note_refused_retry(letter.id, error.sqlstate, error.message);
  if (!noted) return lost(noted.error());
  return std::optional(Retried::kDead);
}

Result<void> DeadLetterDesk::remove(std::int64_t id) {
  if (const auto letter = find(id); !letter) return letter.error();
  const auto removed = at_.store->remove_dead_letter(id);
  if (!removed) return lost(removed.error());
  if (!removed.value()) return no_such_letter(id);
  Ledger ledger = at_.place().ledger;
  --ledger.dead_letters;
  ++ledger.dead_letters_removed;
  at_.set_ledger(ledger);
  return {};
}

}  // namespace run_recorder
