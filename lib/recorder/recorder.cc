#include "recorder/recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/aside.h"
#include "base/url.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kIdleTurn{2'000};
constexpr std::chrono::minutes kTurnTime{2};        // several calls to the database, each to its deadline
constexpr std::chrono::minutes kMigrationTime{15};  // several migrations, each to its deadline
constexpr milliseconds kHintEvery{1'000};
constexpr int kStoredLookups = 16;  // batches decided from stored rows after one was raced
constexpr int kConflictLinesPerMinute = 20;
constexpr int kDeadLetterLinesPerMinute = 100;
constexpr int kRacesOfOneBatch = 10;
constexpr std::chrono::seconds kPatience{10};  // of who asks for something to be done to a dead letter

// Spread so that many daemons do not come back in the same moment.
int spread_percent() {
  static thread_local std::minstd_rand random{std::random_device{}()};
  return std::uniform_int_distribution<int>(80, 120)(random);
}

// Longer than one that is alive stays silent: it looks whether its heartbeat is due at each idle turn.
milliseconds silence_of_the_ended(milliseconds heartbeat) {
  return heartbeat + heartbeat / 3 + kIdleTurn + milliseconds{1'000};
}

// A row and a history that do not fit together (somebody wrote into one of them) would be raced for ever; so would
// rows that a trigger drops without a word.
Error never_as_expected() {
  return Error{ErrorKind::kData, "the run's row and history were never as they had just been read"};
}

// Never an event's fault: it waits as in any other outage.
Error keeps_colliding() {
  return Error{ErrorKind::kUnavailable,
               "the transaction collided with those of others each time (SQLSTATE 40001 or 40P01)", "40001"};
}

}  // namespace

Recorder::Recorder(RecorderOptions options, Spool& spool, NamedQueues queues)
    : options_(std::move(options)),
      spool_(spool),
      self_{spool.id(), spool.incarnations().back().id, options_.host, options_.version, spool.origin()},
      reader_(spool, options_.fresh_bytes, options_.batch_bytes),
      liveness_(kTurnTime),
      decider_(std::move(queues), options_.cache_bytes, options_.heartbeat_every, liveness_),
      batch_limit_(options_.batch_events),
      suspect_(options_.suspect),
      health_(redact_url(options_.store.url)),
      acceptance_(reader_, decider_, health_, liveness_),
      desk_(desk_access()),
      index_watch_(options_.store, options_.migrate),
      claimant_(silence_of_the_ended(options_.heartbeat)),
      conflicts_logged_(LogLevel::kWarning, kConflictLinesPerMinute, "more events contradicted their runs"),
      letters_logged_(LogLevel::kError, kDeadLetterLinesPerMinute, "more events became dead letters"),
      sequences_(LogLevel::kError, "a sequence of the database stands behind", "the sequences are right again"),
      progress_(known_incarnations(spool.incarnations(), spool.remembered()), spool.usage().first_seq,
                [&spool] { return spool.usage().last_seq; }),
      settled_(!spool.may_be_copy()),
      pacer_(options_.small_batch_events, options_.overlap_events, spool.usage().last_seq) {
  counters_.batch_sizes.assign(kBatchBounds.size() + 1, 0);
  // Until the hint or the database knows better.
  if (self_.id == self_.origin) progress_.set_ledger({.applied = spool.usage().first_seq - 1});
  progress_.load_hint(spool.hint(), self_.id, self_.origin);
  spool_.release(progress_.next_seq() - 1);  // what was applied before this start does not count as full
}

Recorder::~Recorder() {
  if (thread_.joinable()) stop(milliseconds{0});
}

void Recorder::start() {
  thread_ = std::thread([this] { run(); });
}

bool Recorder::stop(milliseconds timeout) {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    stop_by_ = steady_clock::now() + timeout;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
  const MutexLock lock(mutex_);
  return progress_.waiting() == 0;
}

void Recorder::accept(std::vector<SpooledEvent>&& events) {
  reader_.add(std::move(events));
  {
    const MutexLock lock(mutex_);
    signalled_ = true;
    if (resting_ && steady_clock::now() < rest_until()) return;
  }
  work_.notify_one();
}

bool Recorder::wait_applied(std::uint64_t seq, milliseconds timeout) {
  MutexLock lock(mutex_);
  if (progress_.next_seq() > seq) return true;
  ++readers_;
  work_.notify_all();
  const bool applied = applied_.wait_for(lock, timeout, [&] {
    mutex_.assert_held();
    return progress_.next_seq() > seq;
  });
  --readers_;
  return applied;
}

bool Recorder::wait_tables(milliseconds timeout) {
  MutexLock lock(mutex_);
  applied_.wait_for(lock, timeout, [&] {
    mutex_.assert_held();
    return tables_ || health_.state() != DatabaseState::kConnecting;
  });
  return tables_;
}

void Recorder::look_soon() {
  {
    const MutexLock lock(mutex_);
    look_soon_ = signalled_ = true;
  }
  work_.notify_all();
}

std::uint64_t Recorder::accepted_seq() const {
  return spool_.usage().last_seq;
}

std::uint64_t Recorder::pending_until(std::uint64_t seq) const {
  const MutexLock lock(mutex_);
  const std::uint64_t next = progress_.next_seq();
  return next > seq ? 0 : seq - next + 1;
}

RecorderSelf Recorder::self() const {
  const MutexLock lock(mutex_);
  return self_;
}

bool Recorder::wait_settled(milliseconds timeout) {
  MutexLock lock(mutex_);
  return applied_.wait_for(lock, timeout, [this] {
    mutex_.assert_held();
    return settled_;
  });
}

std::optional<steady_clock::time_point> Recorder::back_since() const {
  return health_.back_since();
}

bool Recorder::beat_since(std::string_view run_id, steady_clock::time_point then) const {
  return decider_.heartbeats().since(run_id, then);
}

std::optional<steady_clock::time_point> Recorder::last_beat(std::string_view run_id) const {
  return decider_.heartbeats().last(run_id);
}

RecorderStatus Recorder::status() const {
  DatabaseStatus database = health_.status();
  const MutexLock lock(mutex_);
  RecorderStatus status = counters_;
  status.database = database.state;
  status.database_error = std::move(database.error);
  status.database_since = database.since;
  status.reconnects = database.reconnects;
  status.errors = std::move(database.errors);
  status.waiting_for = index_watch_.waiting_for();
  status.ledger = progress_.ledger();
  status.waiting = progress_.waiting();
  status.accepted = status.ledger.consumed() + status.waiting;
  return status;
}

void Recorder::save_hint(bool now) {
  const auto time = steady_clock::now();
  if (!now && time - last_hint_ < kHintEvery) return;
  last_hint_ = time;
  const std::string hint = [this] {
    const MutexLock lock(mutex_);
    return progress_.hint(self_.id);
  }();
  spool_.set_hint(hint);
}

// ---- the thread

void Recorder::run() {
  name_this_thread("recorder");
  while (true) {
    liveness_.beat();
    {
      const MutexLock lock(mutex_);
      if (stopping_ && (progress_.waiting() == 0 || steady_clock::now() >= stop_by_)) break;
    }
    if (turn()) continue;
    if (ends_early()) break;
    wait_for_work();
  }
  liveness_.rest();
  finish_commit();
  save_hint(true);
  std::vector<Task> left;
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    left.swap(tasks_);
  }
  for (const Task& task : left) task();
}

// Stopping while the database is away: what is spooled stays spooled, there is nothing to wait for.
bool Recorder::ends_early() const {
  const MutexLock lock(mutex_);
  return stopping_ && !store_;
}

bool Recorder::turn() {
  std::vector<Task> tasks;
  {
    const MutexLock lock(mutex_);
    signalled_ = false;
    tasks.swap(tasks_);
  }
  if (!tasks.empty()) finish_commit();  // they use the store
  if (!store_ && !connect()) {
    for (const Task& task : tasks) task();
    return false;
  }
  for (const Task& task : tasks) task();
  if (store_) housekeep();
  if (!store_) return may_go_on();
  if (rests()) return false;
  const bool was_committing = committing_.has_value();
  Batch batch = next_batch();
  if (batch.empty()) {
    finish_commit();
    return was_committing && may_go_on();
  }
  if (batch.unreadable.empty() && batch.events.size() >= options_.overlap_events && stored_lookups_ == 0 &&
      index_watch_.events_unique()) {
    overlap(std::move(batch));
    return may_go_on();
  }
  // What was planned behind a commit that failed is void: the next turn plans anew.
  if (!finish_commit()) return may_go_on();
  acceptance_.begin();
  if (batch.unreadable.empty()) {
    apply_events(batch.events, batch.range, batch.to);
  } else if (!leave_to_original(batch)) {
    set_aside(std::move(batch.unreadable), batch.range, batch.to);
  }
  return may_go_on();
}

bool Recorder::may_go_on() const {
  return store_ || health_.backoff().over();
}

// Until when nothing is committed although something waits; not while somebody waits for it.
steady_clock::time_point Recorder::rest_until() const {
  if (readers_ > 0 || stopping_ || !tasks_.empty()) return {};
  return pacer_.rest_until(progress_.waiting());
}

bool Recorder::rests() {
  const MutexLock lock(mutex_);
  resting_ = !committing_ && steady_clock::now() < rest_until();
  return resting_;
}

void Recorder::wait_for_work() {
  MutexLock lock(mutex_);
  const bool was_stopping = stopping_;
  if (resting_) {
    work_.wait_until(lock, rest_until(), [&] {
      mutex_.assert_held();
      return steady_clock::now() >= rest_until();
    });
    resting_ = false;
    return;
  }
  if (store_) {
    const milliseconds idle = was_stopping ? milliseconds{10} : kIdleTurn;
    work_.wait_for(lock, idle, [&] {
      mutex_.assert_held();
      return signalled_ || !tasks_.empty() || stopping_ != was_stopping;
    });
    return;
  }
  // Away: events do not shorten the backoff, a task (somebody waits for an answer) does not either. Stopping does:
  // there is time for one more try.
  work_.wait_until(lock, steady_clock::now() + health_.backoff().delay(spread_percent()), [this] {
    mutex_.assert_held();
    return stopping_;
  });
}

void Recorder::housekeep() {
  save_hint(false);
  conflicts_logged_.tick();
  letters_logged_.tick();
  const auto now = steady_clock::now();
  // A host's clock that is set forward ends no event's time in the spool.
  spool_.forget(born_utc_ + std::chrono::duration_cast<std::chrono::microseconds>(now - born_));
  if (index_watch_.due(now) && (!finish_commit() || !check_indexes())) return;
  const bool asked = [this] {
    const MutexLock lock(mutex_);
    return std::exchange(look_soon_, false);
  }();
  if (committing_ || (!asked && now - last_heartbeat_ < options_.heartbeat)) return;  // a commit is a heartbeat too
  last_heartbeat_ = now;
  // The database may have been exchanged for one that forgot commits without a connection of ours that broke, as
  // behind a pooler. Whoever commits notices; who is idle has to look, before the spool forgets too.
  const auto checkpoint = store_->check_in(self_);
  if (!checkpoint) return lose_connection(checkpoint.error());
  if (checkpoint.value().holder) {
    read_checkpoint();
    return;
  }
  health_.up();
  log_sequences(checkpoint.value());
  if (matches_checkpoint(checkpoint.value())) return;
  decider_.forget_rows();
  adopt(checkpoint.value());
  count_forgotten();
}

// ---- the connection

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
  const auto checkpoint = claim_checkpoint();
  if (!checkpoint) {
    lose_connection(checkpoint.error());
    return false;
  }
  if (!checkpoint.value()) {
    store_.reset();
    health_.backoff().in_doubt();
    return false;
  }
  note_settled();
  last_heartbeat_ = steady_clock::now();
  log_sequences(*checkpoint.value());
  adopt(*checkpoint.value());
  count_forgotten();
  return store_ != nullptr;
}

// The checkpoint, once this incarnation holds the id; empty while another one may still record under it.
Result<std::optional<Checkpoint>> Recorder::claim_checkpoint() {
  while (true) {
    auto checkpoint = store_->check_in(self_);
    if (!checkpoint) return checkpoint.error();
    if (!checkpoint.value().holder) return std::optional(std::move(checkpoint.value()));
    const Holder& holder = *checkpoint.value().holder;
    switch (claimant_.judge(holder, is_own(holder), steady_clock::now())) {
      case Claim::kTakeOver:
        if (const auto taken = store_->take_over(self_, holder.incarnation); !taken) return taken.error();
        break;
      case Claim::kWait:
        wait_for(holder);
        return std::optional<Checkpoint>();
      case Claim::kRenew:
        take_new_id(holder);
        break;
    }
  }
}

// The one SQLite file is this process's alone, so whoever else wrote into it has ended.
bool Recorder::is_own(const Holder& holder) const {
  if (database_kind(options_.store.url) == DatabaseKind::kSqlite) return true;
  if (spool_.may_be_copy()) return false;
  const auto has_it = [&holder](const std::vector<Incarnation>& own) {
    return std::ranges::find(own, holder.incarnation, &Incarnation::id) != own.end();
  };
  return has_it(spool_.remembered()) ||
         has_it(spool_.incarnations());  // a spool of an earlier release remembers none
}

void Recorder::wait_for(const Holder& holder) {
  const std::string why = fmt::format("another incarnation of recorder {} was seen on {} {} s ago", self_.id,
                                      holder.host, holder.seen_ago.count() / 1'000);
  health_.in_doubt(why);
  const MutexLock lock(mutex_);
  settled_ = false;
}

void Recorder::note_settled() {
  spool_.settle();
  claimant_.forget();
  health_.no_longer_in_doubt();
  {
    const MutexLock lock(mutex_);
    settled_ = true;
  }
  applied_.notify_all();
}

// Positions stay where they are, under the spool's origin: what this spool and the other one both have is applied by
// whichever comes first, and what only this one has by this one.
void Recorder::take_new_id(const Holder& holder) {
  const std::string id = spool_.renew();
  log_warning("another process records under this spool's id: one of the two is a copy; this one takes a new id",
              {{"OLD", self_.id}, {"NEW", id}, {"OTHER_HOST", holder.host}});
  claimant_.forget();
  const MutexLock lock(mutex_);
  self_.id = id;
  progress_.set_ledger({});
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
    const auto committed = store_->commit(self_, *write);
    if (!committed) lose_connection(committed.error());
    if (!committed || committed.value() != Committed::kYes) break;
    const MutexLock lock(mutex_);
    forgotten += progress_.forgotten(*write);
  }
  if (forgotten == 0) return;
  log_error("the database has forgotten events that the spool no longer keeps", {{"EVENTS", forgotten}});
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

// ---- reading

std::size_t Recorder::batch_limit() {
  const std::uint64_t newest = accepted_seq();
  const std::size_t most = std::min(batch_limit_.events(), options_.batch_events);
  const MutexLock lock(mutex_);
  return pacer_.batch_events(most, newest, steady_clock::now());
}

Batch Recorder::next_batch() {
  const std::size_t limit = batch_limit();
  const SpoolProgress::Part part = [this] {
    const MutexLock lock(mutex_);
    return progress_.next_part();
  }();
  return reader_.read(part, limit, self_.id);
}

// Records that a copy of a spool lacks are not lost: the other one has them, and the position up to which they are
// applied is the same for both. What follows them in their range the other one has too. False: they are this one's.
bool Recorder::leave_to_original(const Batch& batch) {
  const MutexLock lock(mutex_);
  const IncarnationRange& range = progress_.ranges()[batch.range];
  const bool is_missing = batch.unreadable.front().record.empty();
  if (!is_missing || range.begin >= spool_.shared_before()) return false;
  log_warning("records are missing in this copy of a spool; they and those behind them are left to the original",
              {{"FROM", batch.from + 1}, {"TO", range.last}});
  progress_.leave_rest(batch.range);
  spool_.release(progress_.next_seq() - 1);
  return true;
}

// ---- applying

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
  decider_.planned(planned->write, planned->beating, self_.id);
  if (!finish_commit()) return;
  {
    const MutexLock lock(mutex_);
    progress_.plan(planned->range, planned->write);
  }
  committing_.emplace(Committing{std::move(planned.value()), {}});
  committing_->outcome =
      run_aside([this, &write = committing_->planned.write] { return store_->commit(self_, write); });
}

// Waits for the commit under way, if there is one. False: it failed, and what was planned behind it is void; where
// the data was refused, or rows were not as expected, the next turn decides it again, from stored rows.
bool Recorder::finish_commit() {
  if (!committing_) return true;
  const auto committed = committing_->outcome.get();
  const PlannedWrite done = std::move(committing_->planned);
  committing_.reset();
  if (committed && committed.value() == Committed::kYes) {
    note_commit(done.events, {});
    log_conflicts(done.conflicts);
    advance(done.range, done.write.to, done.write.ledger);
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
  auto decided = decider_.decide_batch(*store_, std::move(events), self_.id, lookup);
  if (!decided) return decided.error();
  Decision& decision = decided.value();
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
    return set_aside({dead_letter_of(events.front(), reader_.record_of(events.front()), self_.id, error)}, range, to);
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
    decider_.planned(write, planned->beating, self_.id);
    log_conflicts(planned->conflicts);
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
  const auto checkpoint = store_->check_in(self_);
  if (!checkpoint) {
    lose_connection(checkpoint.error());
    return false;
  }
  if (!matches_checkpoint(checkpoint.value())) {
    read_checkpoint();
    return false;
  }
  const auto taken = acceptance_.takes_others({*store_, self_, place()}, refused, event.seq);
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
  const auto began = steady_clock::now();
  auto committed = store_->commit(self_, write);
  if (committed && committed.value() == Committed::kYes) note_commit(events, steady_clock::now() - began);
  return committed;
}

void Recorder::note_commit(std::size_t events, steady_clock::duration took) {
  health_.up();
  batch_limit_.succeeded(events);
  last_heartbeat_ = steady_clock::now();
  const MutexLock lock(mutex_);
  pacer_.committed(events, last_heartbeat_, took);
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

// ---- dead letters

// What has begun when the caller's patience ends is waited for: what was answered as not done is never done later.
template <class T>
Result<T> Recorder::on_thread(std::function<Result<T>()> work) {
  struct Call {
    std::promise<Result<T>> answer;
    std::atomic<bool> taken = false;  // by the thread, or given up by the caller
  };
  const auto call = std::make_shared<Call>();
  auto future = call->answer.get_future();
  {
    const MutexLock lock(mutex_);
    if (ended_) return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
    tasks_.push_back([this, call, work] {
      if (call->taken.exchange(true)) return;
      if (!store_) {
        call->answer.set_value(Error{ErrorKind::kUnavailable, "the database is away"});
      } else {
        call->answer.set_value(work());
      }
    });
    signalled_ = true;
  }
  work_.notify_all();
  if (future.wait_for(kPatience) != std::future_status::ready && !call->taken.exchange(true)) {
    return Error{ErrorKind::kUnavailable, "the database is away"};
  }
  return future.get();
}

Result<Recorder::Retried> Recorder::retry_dead_letter(std::int64_t id) {
  return on_thread<Retried>([this, id] { return desk_.retry(id); });
}

Result<void> Recorder::remove_dead_letter(std::int64_t id) {
  return on_thread<void>([this, id] { return desk_.remove(id); });
}

DeadLetterDesk::Recording Recorder::desk_access() {
  return {store_,
          self_,
          decider_,
          [this] { return place(); },
          [this](const Ledger& ledger) {
            const MutexLock lock(mutex_);
            progress_.set_ledger(ledger);
          },
          [this](const Error& error) { lose_connection(error); },
          [this] { return read_checkpoint(); },
          [this] { return open_store(options_.store); },
          [this](const Error& error) { health_.count(error); },
          [this](const std::vector<Decision::Conflict>& conflicts) { log_conflicts(conflicts); }};
}

}  // namespace run_recorder
