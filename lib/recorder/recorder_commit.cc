// How the recorder commits a batch: beside the next one, or by itself and halved until what is refused stands alone.
#include "recorder/recorder.h"

#include <algorithm>
#include <utility>

#include "base/async_call.h"

namespace run_recorder {
namespace {

using std::chrono::steady_clock;

constexpr int kStoredLookups = 16;  // batches decided from stored rows after one was raced
constexpr int kRacesOfOneBatch = 10;

// A row and a history that do not fit together (somebody wrote into one of them) would be raced for ever; so would
// rows that a trigger drops without a word.
Error never_as_expected() {
  return Error{ErrorKind::kData, "the run's row and history changed at each try"};
}

// Never an event's fault: it waits as in any other outage.
Error keeps_colliding() {
  return Error{ErrorKind::kUnavailable,
               "the transaction could not be serialized at any try (SQLSTATE 40001 or 40P01)", "40001"};
}

}  // namespace

// Decides a batch while the one before it is still being committed, from the rows as that commit will leave them. The
// database and this process then work at the same time.
void Recorder::overlap(Batch batch) {
  if (decider_.needs_database(batch.events) && !finish_commit()) return;
  auto planned = plan_write(std::move(batch.events), batch.range, batch.to, Lookup::kCached);
  if (!planned && cause_of(planned.error()) == FailureCause::kContent) {
    stored_lookups_ = kStoredLookups;
    return;
  }
  if (!planned) return lose_connection(planned.error());
  decider_.planned(planned->write, planned->beating, registration_.own().id, steady_clock::now());
  const RecorderSelf& self = registration_.own();
  const WritePieces* const pieces = pieces_now();
  auto prepared = pieces ? nullptr : store_->prepare(self, planned->write);
  std::optional<PlannedWrite> done;
  if (!finish_commit(&done)) return;
  {
    const MutexLock lock(mutex_);
    progress_.plan(planned->range, planned->write);
  }
  committing_.emplace(Committing{std::move(planned.value()), std::move(prepared), {}});
  committing_->outcome = run_async([this, &self, &commit = *committing_, pieces] {
    begin_writing();
    return store_->commit(self, commit.planned.write, {commit.prepared.get(), pieces});
  });
  if (!done) return;
  councils_.committed(done->write.runs, now_utc());
  decider_.reuse(std::move(done->write));
}

// Waits for the commit under way, if there is one. False: it failed, and what was planned behind it is void; where
// the data was refused, or rows were not as expected, the next turn decides it again, from stored rows.
bool Recorder::finish_commit(std::optional<PlannedWrite>* written) {
  if (!committing_) return true;
  const auto committed = committing_->outcome.get();
  PlannedWrite done = std::move(committing_->planned);
  committing_.reset();
  if (committed && committed.value() == Committed::kYes) {
    note_commit(done.events);
    log_conflicts(done.conflicts);
    if (!written) councils_.committed(done.write.runs, now_utc());
    advance(done.range, done.write.to, done.write.ledger);
    if (written) *written = std::move(done);
    return true;
  }
  {
    const MutexLock lock(mutex_);
    progress_.abandon();
  }
  decider_.forget_rows();  // they are as they should have become
  decider_.doubt_heartbeats();
  if (!committed && cause_of(committed.error()) != FailureCause::kContent) {
    lose_batch(committed.error(), done.events);
    return false;
  }
  if (committed && committed.value() == Committed::kMisplaced) {
    read_checkpoint();
    return false;
  }
  stored_lookups_ = kStoredLookups;
  return false;
}

// Decides events and makes their write, behind what is planned.
Result<Recorder::PlannedWrite> Recorder::plan_write(std::vector<SpooledEvent> events, std::size_t range,
                                                    std::uint64_t to, Lookup lookup) {
  PlannedWrite planned;
  planned.range = range;
  planned.events = events.size();
  auto decided = decider_.decide_batch(*store_, std::move(events), registration_.own().recorded_by(), lookup,
                                       steady_clock::now());
  if (!decided) return decided.error();
  Decision& decision = decided.value();
  reader_.reuse(std::move(decision.spent));
  decider_.add_job_states(decision);
  planned.write = next_write(range);
  planned.write.to = to;
  take_decision(planned.write, decision);
  planned.conflicts = std::move(decision.conflicts);
  planned.beating = std::move(decision.beating);
  return planned;
}

bool Recorder::apply_events(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to) {
  const bool alone = events.size() == 1;
  const std::uint64_t seq = events.front().seq;
  const auto dead_letter = [&](const Error& error) {
    return set_aside(
        {dead_letter_of(events.front(), reader_.record_of(events.front()), registration_.own().id, error)}, range,
        to);
  };
  if (alone && suspect_.is_convicted(seq)) return dead_letter(suspect_.refused().error);
  const bool last_try = alone && suspect_.is_due(seq, steady_clock::now());
  if (last_try && !takes_others_than(suspect_.refused(), events.front())) return false;
  for (bool refused_before = false;; refused_before = true) {
    bool inserts = false;
    const auto committed = try_until_settled(events, range, to, inserts);
    if (committed && committed.value() == Committed::kMisplaced) {
      read_checkpoint();
      return false;
    }
    if (committed) return true;
    const Refused refused{committed.error(), inserts};
    const Error& error = refused.error;
    const FailureCause cause = cause_of(error);
    if (cause != FailureCause::kContent) {
      if (cause == FailureCause::kMoment && alone) suspect_.failed(seq, refused, steady_clock::now(), last_try);
      lose_batch(error, events.size());
      return false;
    }
    health_.count(error);
    // Bisection: the good ones of either half are committed, what the database refuses alone is set aside.
    const std::size_t half = events.size() / 2;
    if (!alone) {
      return apply_events(events.first(half), range, events[half - 1].seq) &&
             apply_events(events.subspan(half), range, to);
    }
    // It has to be refused behind the proof: what refused it may have gone in between. Of no class that speaks of the
    // data, it needs a proof of its own.
    const bool again = !refused_before && (error.kind != ErrorKind::kData || !acceptance_.proven());
    if ((!acceptance_.proven() || again) && !takes_others_than(refused, events.front())) return false;
    acceptance_.prove();
    if (!again) return dead_letter(error);
  }
}

// kYes, kMisplaced or an error: races and collisions are tried again.
Result<Committed> Recorder::try_until_settled(std::span<const SpooledEvent> events, std::size_t range,
                                              std::uint64_t to, bool& inserts) {
  Lookup lookup = stored_lookups_ > 0 || !index_watch_.events_unique() ? Lookup::kStored : Lookup::kCached;
  if (stored_lookups_ > 0) --stored_lookups_;
  for (int races = 0;;) {
    const auto committed = try_events(events, range, to, lookup, inserts);
    if (!committed || committed.value() == Committed::kYes || committed.value() == Committed::kMisplaced) {
      return committed;
    }
    if (++races == kRacesOfOneBatch) {
      if (committed.value() == Committed::kCollided) return keeps_colliding();
      return never_as_expected();
    }
    lookup = Lookup::kStored;
    stored_lookups_ = kStoredLookups;
  }
}

Result<Committed> Recorder::try_events(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to,
                                       Lookup lookup, bool& inserts) {
  auto planned = plan_write({events.begin(), events.end()}, range, to, lookup);
  if (!planned) return planned.error();
  const BatchWrite& write = planned->write;
  inserts = std::ranges::any_of(write.runs, &RunChange::insert);
  const bool changes = !std::ranges::all_of(write.runs, &RunChange::insert);
  const auto committed = commit(write, events.size());
  if (committed && committed.value() == Committed::kYes) {
    acceptance_.taken(inserts, changes);
    decider_.planned(write, planned->beating, registration_.own().id, steady_clock::now());
    log_conflicts(planned->conflicts);
    councils_.committed(write.runs, now_utc());
    advance(range, to, write.ledger);
  } else if (committed && committed.value() == Committed::kMisplaced) {
    decider_.doubt_heartbeats();
  } else {
    decider_.not_written(write);
  }
  return committed;
}

// ---- whose fault it is

bool Recorder::takes_others_than(const Refused& refused, const SpooledEvent& event) {
  liveness_.beat();
  const auto checkpoint = store_->check_in(registration_.own());
  if (!checkpoint) {
    lose_connection(checkpoint.error());
    return false;
  }
  if (!matches_checkpoint(checkpoint.value())) {
    read_checkpoint();
    return false;
  }
  const auto taken = acceptance_.takes_others({*store_, registration_.own(), place()}, refused, event.seq);
  if (taken && taken.value()) return true;
  Error error = taken ? refused.error : taken.error();
  // It works, and takes nothing.
  if (cause_of(error) == FailureCause::kContent) error.kind = ErrorKind::kRefused;
  lose_connection(error);
  return false;
}

BatchWrite Recorder::place() const {
  const MutexLock lock(mutex_);
  return progress_.place();
}

BatchWrite Recorder::next_write(std::size_t range) const {
  const MutexLock lock(mutex_);
  return progress_.next_write(range);
}

bool Recorder::set_aside(std::vector<DeadLetter> letters, std::size_t range, std::uint64_t to) {
  BatchWrite write = next_write(range);
  write.to = to;
  write.ledger.dead_letters += letters.size();
  write.dead_letters = std::move(letters);
  const auto committed = commit(write, write.dead_letters.size());
  if (!committed) {
    lose_connection(committed.error());
    return false;
  }
  if (committed.value() != Committed::kYes) {
    read_checkpoint();
    return false;
  }
  for (const DeadLetter& letter : write.dead_letters) {
    if (!letters_logged_.admit()) continue;
    log_error(
        "an event became a dead letter",
        {{"RUN_ID", letter.run_id}, {"TYPE", letter.type}, {"SQLSTATE", letter.sqlstate}, {"REASON", letter.reason}});
  }
  advance(range, to, write.ledger);
  const MutexLock lock(mutex_);
  for (const DeadLetter& letter : write.dead_letters) counters_.damaged += letter.record.empty() ? 1 : 0;
  return true;
}

Result<Committed> Recorder::commit(const BatchWrite& write, std::size_t events) {
  liveness_.beat();
  begin_writing();
  auto committed = store_->commit(registration_.own(), write, {nullptr, pieces_now()});
  if (committed && committed.value() == Committed::kYes) note_commit(events);
  return committed;
}

const WritePieces* Recorder::pieces_now() const {
  const MutexLock lock(mutex_);
  return pacer_.pace() == Pace::kFull ? nullptr : &pieces_;
}

void Recorder::begin_writing() {
  const MutexLock lock(mutex_);
  wrote_since_ = steady_clock::now();
}

// Whoever waits for what is applied ends it.
void Recorder::rest() {
  MutexLock lock(mutex_);
  const auto now = steady_clock::now();
  const auto until = pacer_.rests_until(now, now - wrote_since_);
  work_.wait_until(lock, until, [&] {
    mutex_.assert_held();
    return readers_ > 0 || stopping_ || !calls_.empty();
  });
  wrote_since_ = steady_clock::now();
}

void Recorder::note_commit(std::size_t events) {
  health_.up();
  batch_limit_.succeeded(events);
  last_heartbeat_ = steady_clock::now();
  const MutexLock lock(mutex_);
  pacer_.committed(events, last_heartbeat_);
  ++counters_.batches;
  counters_.batch_events += events;
  for (std::size_t i = 0; i < kBatchBounds.size(); ++i) {
    if (events <= kBatchBounds[i]) ++counters_.batch_sizes[i];
  }
  ++counters_.batch_sizes.back();
}

void Recorder::advance(std::size_t range, std::uint64_t to, const Ledger& ledger) {
  {
    const MutexLock lock(mutex_);
    progress_.committed(range, to, ledger);
    spool_.release(progress_.next_seq() - 1);  // before anybody sees it applied
  }
  applied_.notify_all();
}

void Recorder::log_conflicts(const std::vector<Decision::Conflict>& conflicts) {
  for (const Decision::Conflict& conflict : conflicts) {
    if (!conflicts_logged_.admit()) continue;
    log_warning("an event contradicts its run, the row keeps what came first",
                {{"RUN_ID", conflict.run_id}, {"TYPE", conflict.type}, {"CONFLICT", conflict.what}});
  }
}

}  // namespace run_recorder
