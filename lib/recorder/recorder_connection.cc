// The recorder and its database: connecting, registering, and going to where the database is.
#include "recorder/recorder.h"

#include <algorithm>
#include <utility>

namespace run_recorder {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::minutes kMigrationTime{15};  // several migrations, each to its deadline

}  // namespace

bool Recorder::connect() {
  liveness_.beat(kMigrationTime);
  const auto migrated =
      options_.migrate ? migrate_tables(options_.store) : run_recorder::migrate(options_.store, true);
  if (!migrated) {
    lose_connection(migrated.error());
    return false;
  } else {
    for (const std::string& name : migrated.value().applied) log_info("migration applied", {{"MIGRATION", name}});
  }
  {
    const MutexLock lock(mutex_);
    tables_ = true;
  }
  applied_.notify_all();
  liveness_.beat();
  auto store = open_store(options_.store);
  if (!store) {
    lose_connection(store.error());
    return false;
  }
  store_ = std::move(store.value());
  if (!check_indexes() || !read_checkpoint()) return false;
  const bool nothing_to_prove = [&] {
    const MutexLock lock(mutex_);
    return progress_.waiting() == 0;
  }();
  if (nothing_to_prove) health_.up();
  return true;
}

bool Recorder::check_indexes() {
  const auto checked = index_watch_.check(*store_, steady_clock::now());
  if (!checked) lose_connection(checked.error());
  return checked.has_value();
}

// While this spool knows an incarnation, its position stays, whether it moves or not.
bool Recorder::keep_positions() {
  positions_kept_ = steady_clock::now();
  std::vector<std::string> incarnations;
  {
    const MutexLock lock(mutex_);
    for (const IncarnationRange& range : progress_.ranges()) incarnations.push_back(range.incarnation);
  }
  const auto kept = store_->keep_positions(registration_.own().positions_of(), incarnations);
  if (!kept) lose_connection(kept.error());
  return kept.has_value();
}

// Ids that were given out twice would be said to be the events' fault.
void Recorder::log_sequences(const Checkpoint& checkpoint) {
  if (checkpoint.sequences.empty()) {
    sequences_.clear();
    return;
  }
  for (const std::string& sequence : checkpoint.sequences) sequences_.report(sequence);
}

// Reads the position and the ledger; everything known of rows is forgotten. False: the connection is given up.
bool Recorder::read_checkpoint() {
  decider_.forget_rows();
  const std::string id = registration_.own().id;
  const auto checkpoint = registration_.claim(*store_, steady_clock::now());
  if (registration_.own().id != id) {
    const MutexLock lock(mutex_);
    progress_.set_ledger({});
  }
  if (!checkpoint) {
    lose_connection(checkpoint.error());
    return false;
  }
  if (!checkpoint.value()) {
    store_.reset();
    return false;
  }
  last_heartbeat_ = steady_clock::now();
  if (!keep_positions()) return false;  // before others are told that the database is up
  log_sequences(*checkpoint.value());
  adopt(*checkpoint.value());
  count_forgotten();
  return store_ != nullptr;
}

bool Recorder::matches_checkpoint(const Checkpoint& checkpoint) const {
  const MutexLock lock(mutex_);
  return progress_.matches(checkpoint);
}

void Recorder::adopt(const Checkpoint& checkpoint) {
  std::uint64_t before = 0;
  std::uint64_t wanted = 0;
  {
    const MutexLock lock(mutex_);
    before = progress_.next_seq();
    progress_.adopt(checkpoint);
    wanted = progress_.next_seq();
  }
  spool_.release(std::max(wanted, spool_.usage().first_seq) - 1);  // from here on nothing of it gives way
  const std::uint64_t kept = spool_.usage().first_seq;
  std::uint64_t after = 0;
  {
    const MutexLock lock(mutex_);
    progress_.keep_from(kept);
    after = progress_.next_seq();
  }
  if (after < before) {
    log_warning("the database forgot commits, they are applied again from the spool",
                {{"EVENTS", before - after}, {"FROM", after}});
  }
  applied_.notify_all();
}

// What the database forgot and the spool no longer has: said, counted, and kept in the ledger as applied, which it
// was.
void Recorder::count_forgotten() {
  std::uint64_t forgotten = 0;
  while (const std::optional<BatchWrite> write = next_forgotten()) {
    const auto committed = store_->commit(registration_.own(), *write);
    if (!committed) lose_connection(committed.error());
    if (!committed || committed.value() != Committed::kYes) break;
    const MutexLock lock(mutex_);
    forgotten += progress_.forgotten(*write);
  }
  if (forgotten == 0) return;
  log_error("the database forgot events that the spool no longer keeps", {{"EVENTS", forgotten}});
  const MutexLock lock(mutex_);
  counters_.forgotten += forgotten;
}

std::optional<BatchWrite> Recorder::next_forgotten() {
  const MutexLock lock(mutex_);
  return progress_.next_forgotten();
}

void Recorder::lose_connection(const Error& error) {
  const bool was_connected = store_ != nullptr;
  store_.reset();
  health_.lost(error, was_connected);
  { const MutexLock lock(mutex_); }
  applied_.notify_all();  // who waits for tables need not wait any longer
}

// What failed by time or with its connection is tried with half of the events next, and at once.
void Recorder::lose_batch(const Error& error, std::size_t events) {
  lose_connection(error);
  if (cause_of(error) != FailureCause::kMoment) return;
  batch_limit_.failed(events);
  if (events > 1) health_.backoff().tries_less();
}

}  // namespace run_recorder
