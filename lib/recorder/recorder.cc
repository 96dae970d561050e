#include "recorder/recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/aside.h"
#include "base/url.h"
#include "base/utf8.h"
#include "protocol/protocol.h"
#include "recorder/probe.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kIdleTurn{2'000};
constexpr std::chrono::minutes kTurnTime{2};        // several calls to the database, each to its deadline
constexpr std::chrono::minutes kMigrationTime{15};  // several migrations, each to its deadline
constexpr milliseconds kHintEvery{1'000};
constexpr milliseconds kJobPatience{200};
constexpr int kCarefulBatches = 16;
constexpr int kConflictLinesPerMinute = 20;
constexpr int kDeadLetterLinesPerMinute = 100;
constexpr int kRetriesOfOneLetter = 10;
constexpr int kRacesOfOneBatch = 10;
constexpr std::size_t kDeadLineBytes = 1 << 16;
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
      beats_(options_.heartbeat_every),
      probe_(std::move(queues)),
      liveness_(kTurnTime),
      cache_(options_.cache_bytes),
      batch_limit_(options_.batch_events),
      suspect_(options_.suspect),
      health_(redact_url(options_.store.url)),
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
  return beats_.since(run_id, then);
}

std::optional<steady_clock::time_point> Recorder::last_beat(std::string_view run_id) const {
  return beats_.last(run_id);
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
    if (gives_up()) break;
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
bool Recorder::gives_up() const {
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
  if (!store_) return presses_on();
  if (rests()) return false;
  const bool was_committing = committing_.has_value();
  Batch batch = next_batch();
  if (batch.empty()) {
    finish_commit();
    return was_committing && presses_on();
  }
  if (batch.unreadable.empty() && batch.events.size() >= options_.overlap_events && careful_batches_ == 0 &&
      index_watch_.events_unique()) {
    overlap(std::move(batch));
    return presses_on();
  }
  // What was planned behind a commit that failed is void: the next turn plans anew.
  if (!finish_commit()) return presses_on();
  is_sound_ = took_new_ = took_changed_ = false;
  if (batch.unreadable.empty()) {
    apply_events(batch.events, batch.range, batch.to);
  } else if (!leave_to_original(batch)) {
    bury(std::move(batch.unreadable), batch.range, batch.to);
  }
  return presses_on();
}

bool Recorder::presses_on() const {
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
    restand();
    return;
  }
  health_.up();
  log_sequences(checkpoint.value());
  if (stands_where_expected(checkpoint.value())) return;
  cache_.clear();
  adopt(checkpoint.value());
  forgive_forgotten();
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
  if (!check_indexes() || !restand()) return false;
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
bool Recorder::restand() {
  cache_.clear();
  const auto checkpoint = stand();
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
  forgive_forgotten();
  return store_ != nullptr;
}

// The checkpoint, once this incarnation holds the id; empty while another one may still record under it.
Result<std::optional<Checkpoint>> Recorder::stand() {
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

bool Recorder::stands_where_expected(const Checkpoint& checkpoint) const {
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
void Recorder::forgive_forgotten() {
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
  if (blame_of(error) != Blame::kMoment) return;
  batch_limit_.failed(events);
  if (events > 1) health_.backoff().tries_less();
}

Error Recorder::lost(const Error& error) {
  lose_connection(error);
  return error;
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
  if (needs_database(batch.events) && !finish_commit()) return;
  Committing next;
  next.range = batch.range;
  next.events = batch.events.size();
  auto decision = decide_batch(std::move(batch.events), false);
  if (!decision && blame_of(decision.error()) == Blame::kContent) {
    careful_batches_ = kCarefulBatches;
    return;
  }
  if (!decision) return lose_connection(decision.error());
  add_job_states(decision.value());
  next.write = next_write(batch.range);
  fill_write(next.write, decision.value(), batch.to);
  remember(next.write, decision.value().beating);
  if (!finish_commit()) return;
  next.conflicts = std::move(decision.value().conflicts);
  {
    const MutexLock lock(mutex_);
    progress_.plan(next.range, next.write);
  }
  committing_.emplace(std::move(next));
  committing_->outcome = run_aside([this, &write = committing_->write] { return store_->commit(self_, write); });
}

// Waits for the commit under way, if there is one. False: it failed, and what was planned behind it is void; where
// the data is to blame, or rows were not as expected, the next turn takes it up again and looks everything up first.
bool Recorder::finish_commit() {
  if (!committing_) return true;
  const auto committed = committing_->outcome.get();
  const Committing done = std::move(*committing_);
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
  cache_.clear();  // it holds rows as they should have become
  beats_.doubt();
  if (!committed && blame_of(committed.error()) != Blame::kContent) {
    lose_batch(committed.error(), done.events);
    return false;
  }
  if (committed && committed.value() == Committed::kMisplaced) {
    restand();
    return false;
  }
  careful_batches_ = kCarefulBatches;
  return false;
}

void Recorder::fill_write(BatchWrite& write, Decision& decision, std::uint64_t to) {
  write.to = to;
  write.ledger.applied += decision.applied;
  write.ledger.duplicate += decision.duplicate;
  write.ledger.conflicts += decision.conflicts.size();
  write.runs = std::move(decision.runs);
  write.beats = std::move(decision.beats);
  write.history = std::move(decision.history);
}

bool Recorder::apply_events(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to) {
  const bool alone = events.size() == 1;
  const std::uint64_t seq = events.front().seq;
  const auto bury_it = [&](const Error& error) { return bury({dead_letter_of(events.front(), error)}, range, to); };
  if (alone && suspect_.is_convicted(seq)) return bury_it(suspect_.refused().error);
  const bool last_try = alone && suspect_.is_due(seq, steady_clock::now());
  if (last_try && !is_sound_but_for(suspect_.refused(), events.front())) return false;
  for (bool refused_before = false;; refused_before = true) {
    bool inserts = false;
    const auto committed = try_until_settled(events, range, to, inserts);
    if (committed && committed.value() == Committed::kMisplaced) {
      restand();
      return false;
    }
    if (committed) return true;
    const Refused refused{committed.error(), inserts};
    const Error& error = refused.error;
    const Blame blame = blame_of(error);
    if (blame != Blame::kContent) {
      if (blame == Blame::kMoment && alone) suspect_.failed(seq, refused, steady_clock::now(), last_try);
      lose_batch(error, events.size());
      return false;
    }
    health_.count(error);
    // Bisection: the good ones of either half are committed, what the database refuses alone is buried.
    const std::size_t half = events.size() / 2;
    if (!alone) {
      return apply_events(events.first(half), range, events[half - 1].seq) &&
             apply_events(events.subspan(half), range, to);
    }
    // It has to be refused behind the proof: what refused it may have gone in between. Of no class that speaks of the
    // data, it needs a proof of its own.
    const bool again = !refused_before && (error.kind != ErrorKind::kData || !is_sound_);
    if ((!is_sound_ || again) && !is_sound_but_for(refused, events.front())) return false;
    is_sound_ = true;
    if (!again) return bury_it(error);
  }
}

// kYes, kMisplaced or an error: races and collisions are tried again.
Result<Committed> Recorder::try_until_settled(std::span<const SpooledEvent> events, std::size_t range,
                                              std::uint64_t to, bool& inserts) {
  bool careful = careful_batches_ > 0 || !index_watch_.events_unique();
  if (careful_batches_ > 0) --careful_batches_;
  for (int races = 0;;) {
    const auto committed = try_events(events, range, to, careful, inserts);
    if (!committed || committed.value() == Committed::kYes || committed.value() == Committed::kMisplaced) {
      return committed;
    }
    if (++races == kRacesOfOneBatch) {
      if (committed.value() == Committed::kCollided) return keeps_colliding();
      return never_as_expected();
    }
    careful = true;
    careful_batches_ = kCarefulBatches;
  }
}

Result<Committed> Recorder::try_events(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to,
                                       bool careful, bool& inserts) {
  auto decision = decide_batch({events.begin(), events.end()}, careful);
  if (!decision) return decision.error();
  add_job_states(decision.value());
  BatchWrite write = next_write(range);
  fill_write(write, decision.value(), to);
  inserts = std::ranges::any_of(write.runs, &RunChange::insert);
  const bool changes = !std::ranges::all_of(write.runs, &RunChange::insert);
  const auto committed = commit(write, events.size());
  if (committed && committed.value() == Committed::kYes) {
    took_new_ = took_new_ || inserts;
    took_changed_ = took_changed_ || changes;
    remember(write, decision.value().beating);
    log_conflicts(decision.value().conflicts);
    advance(range, to, write.ledger);
  } else {
    beats_.doubt();
    if (committed && committed.value() == Committed::kMisplaced) return committed;
    for (const RunChange& change : write.runs) cache_.erase(change.after.run_id);
  }
  return committed;
}

// ---- whose fault it is

bool Recorder::is_sound_but_for(const Refused& refused, const SpooledEvent& event) {
  liveness_.beat();
  const auto checkpoint = store_->check_in(self_);
  if (!checkpoint) {
    lose_connection(checkpoint.error());
    return false;
  }
  if (!stands_where_expected(checkpoint.value())) {
    restand();
    return false;
  }
  const auto taken = takes_others(refused, event);
  if (taken && taken.value()) return true;
  Error error = taken ? refused.error : taken.error();
  // It works, and takes nothing.
  if (blame_of(error) == Blame::kContent) error.kind = ErrorKind::kRefused;
  lose_connection(error);
  return false;
}

Result<bool> Recorder::takes_others(const Refused& refused, const SpooledEvent& event) {
  const auto probed = takes_probe();
  if (!probed || probed.value()) return probed;
  // Something of somebody else's wants no rows like the probe's. Those of other events count as well, if they are
  // written in the same way.
  if (refused.inserts ? took_new_ : took_changed_) return true;
  return takes_one_behind(refused, event.seq);
}

// First a run like any, then one like the newest.
Result<bool> Recorder::takes_probe() {
  const auto usual = rehearse(probe_writes(place(), nullptr, self_.id));
  if (!usual || usual.value()) return usual;
  RunFilter newest;
  newest.limit = 1;
  const auto page = store_->list_runs(newest);
  if (!page) return page.error();
  if (page.value().runs.empty()) return false;
  const auto row = store_->find_run(page.value().runs.front().run_id);
  if (!row) return row.error();
  if (!row.value()) return false;
  return rehearse(probe_writes(place(), &*row.value(), self_.id));
}

// Whether one of the events behind a refused one would be taken, each by itself and written in the same way.
Result<bool> Recorder::takes_one_behind(const Refused& refused, std::uint64_t seq) {
  for (SpooledEvent& event : reader_.read_behind(seq)) {
    std::vector<SpooledEvent> alone;
    alone.push_back(std::move(event));
    auto decision = decide_on(std::move(alone), true);
    if (!decision) continue;
    BatchWrite write = place();
    write.runs = std::move(decision.value().runs);
    write.history = std::move(decision.value().history);
    if (write.runs.empty() || write.runs.front().insert != refused.inserts) continue;
    const auto taken = rehearse({&write, 1});
    if (!taken || taken.value()) return taken;
  }
  return false;
}

// False: rows were refused, or not as expected. Errors: what is no fault of the rows.
Result<bool> Recorder::rehearse(std::span<const BatchWrite> writes) {
  liveness_.beat();
  const auto taken = store_->rehearse(self_, writes);
  if (taken) return taken.value() == Committed::kYes;
  health_.count(taken.error());
  if (blame_of(taken.error()) == Blame::kContent) return false;
  return taken.error();
}

BatchWrite Recorder::place() const {
  const MutexLock lock(mutex_);
  return progress_.place();
}

BatchWrite Recorder::next_write(std::size_t range) const {
  const MutexLock lock(mutex_);
  return progress_.next_write(range);
}

bool Recorder::bury(std::vector<DeadLetter> letters, std::size_t range, std::uint64_t to) {
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
    restand();
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

Result<Decision> Recorder::decide_batch(std::vector<SpooledEvent> events, bool careful) {
  Heartbeats::Taken taken = beats_.take(events, steady_clock::now());
  if (events.empty()) {
    Decision only_beats;
    only_beats.applied = taken.total();
    only_beats.beats = std::move(taken.due);
    return only_beats;
  }
  auto decision = decide_on(std::move(events), careful);
  if (!decision) {
    beats_.doubt();
    return decision;
  }
  decision.value().applied += taken.total();
  decision.value().beats = std::move(taken.due);
  return decision;
}

Result<Decision> Recorder::decide_on(std::vector<SpooledEvent> events, bool careful) {
  std::map<std::string, Run, std::less<>> rows;
  EventIds known;
  std::set<std::string, std::less<>> pruned;
  if (const auto loaded = load_rows(events, careful, rows); !loaded) return loaded.error();
  if (careful) {
    std::vector<std::pair<std::string, std::string>> ids;
    for (const SpooledEvent& event : events) {
      if (event.event.id) ids.emplace_back(event.event.run_id, *event.event.id);
    }
    if (!ids.empty()) {
      auto found = store_->known_events(ids);
      if (!found) return found.error();
      known.insert(found.value().begin(), found.value().end());
    }
    if (const auto removed = find_pruned(events, rows, pruned); !removed) return removed.error();
  }
  const auto row_of = [&](std::string_view run_id) -> const Run* {
    if (const auto row = rows.find(run_id); row != rows.end()) return &row->second;
    return careful ? nullptr : cache_.find(run_id);
  };
  const auto same = compare_outcomes(events, row_of);
  if (!same) return same.error();
  return decide(std::move(events), row_of, known, self_.id, pruned, same.value());
}

// Rows come without their texts, whatever those weigh. For the few events that have to be compared with them the
// database does it, so that a batch takes memory for what its events bring and not for what their rows hold.
Result<Comparisons> Recorder::compare_outcomes(std::span<const SpooledEvent> events,
                                               const std::function<const Run*(std::string_view)>& row_of) {
  std::vector<SaidOutcome> said;
  std::vector<std::uint64_t> seqs;
  for (const SpooledEvent& spooled : events) {
    const Run* row = row_of(spooled.event.run_id);
    if (!row || !needs_comparison(*row, spooled.event)) continue;
    said.push_back({spooled.event.run_id, outcome_of(spooled.event)});
    seqs.push_back(spooled.seq);
  }
  Comparisons same;
  if (said.empty()) return same;
  liveness_.beat();
  const auto compared = store_->compare_outcomes(said);
  if (!compared) return compared.error();
  for (std::size_t i = 0; i < seqs.size(); ++i) same.emplace(seqs[i], compared.value()[i]);
  return same;
}

// Runs without a row that once had one. Only a careful decision asks: the insertion of such a row is what a hasty one
// is raced by.
Result<void> Recorder::find_pruned(std::span<const SpooledEvent> events,
                                   const std::map<std::string, Run, std::less<>>& rows,
                                   std::set<std::string, std::less<>>& pruned) {
  std::set<std::string> missing;
  for (const SpooledEvent& spooled : events) {
    if (!rows.contains(spooled.event.run_id)) missing.insert(spooled.event.run_id);
  }
  if (missing.empty()) return {};
  auto found = store_->pruned(std::vector<std::string>(missing.begin(), missing.end()));
  if (!found) return found.error();
  pruned.insert(found.value().begin(), found.value().end());
  return {};
}

// A run that none of these events begins and that is not cached: its row has to be loaded.
bool Recorder::needs_row(const Event& event) const {
  const bool begins = event.kind == EventKind::kQueued || event.kind == EventKind::kStarted;
  return !begins && !cache_.find(event.run_id);
}

// Whether a decision about these events asks the database for anything, which the commit under way has to itself.
bool Recorder::needs_database(std::span<const SpooledEvent> events) const {
  std::set<std::string_view> seen;
  return std::ranges::any_of(events, [&](const SpooledEvent& spooled) {
    if (seen.insert(spooled.event.run_id).second && needs_row(spooled.event)) return true;
    const Run* row = cache_.find(spooled.event.run_id);
    return row && needs_comparison(*row, spooled.event);
  });
}

// Loads the rows a decision needs: all of them, or those that are neither cached nor begun by these events.
Result<void> Recorder::load_rows(std::span<const SpooledEvent> events, bool all,
                                 std::map<std::string, Run, std::less<>>& rows) {
  std::vector<std::string> wanted;
  std::set<std::string_view> seen;
  for (const SpooledEvent& spooled : events) {
    const Event& event = spooled.event;
    if (!seen.insert(event.run_id).second) continue;
    if (all || needs_row(event)) wanted.push_back(event.run_id);
  }
  if (wanted.empty()) return {};
  auto loaded = store_->load(wanted);
  if (!loaded) return loaded.error();
  for (Run& run : loaded.value()) {
    std::string run_id = run.run_id;
    rows.emplace(std::move(run_id), std::move(run));
  }
  return {};
}

void Recorder::add_job_states(Decision& decision) {
  if (!probe_.configured() || decision.finalized.empty()) return;
  const std::set<std::string_view> finalized(decision.finalized.begin(), decision.finalized.end());
  std::vector<JobAsked> jobs;
  std::vector<RunChange*> changes;
  for (RunChange& change : decision.runs) {
    if (!finalized.contains(change.after.run_id) || change.after.oban_job_state_at_finalize) continue;
    auto job = job_of(change.after);
    if (!job) continue;
    jobs.push_back(std::move(*job));
    changes.push_back(&change);
  }
  const auto states = probe_.states(jobs, kJobPatience);
  for (std::size_t i = 0; i < states.size(); ++i) {
    if (states[i]) changes[i]->after.oban_job_state_at_finalize = states[i];
  }
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

void Recorder::remember(const BatchWrite& write, std::span<const std::string> beating) {
  for (const RunChange& change : write.runs) cache_.put(change.after);
  for (const BeatWrite& beat : write.beats) cache_.erase(beat.run_id);
  beats_.wrote(write.runs, beating, self_.id, steady_clock::now());
}

void Recorder::log_conflicts(const std::vector<Decision::Conflict>& conflicts) {
  for (const Decision::Conflict& conflict : conflicts) {
    if (!conflicts_logged_.admit()) continue;
    log_warning("an event contradicts its run, the row keeps what came first",
                {{"RUN_ID", conflict.run_id}, {"TYPE", conflict.type}, {"CONFLICT", conflict.what}});
  }
}

DeadLetter Recorder::dead_letter_of(const SpooledEvent& spooled, const Error& error) {
  const Event& event = spooled.event;
  DeadLetter letter;
  letter.recorder = self_.id;
  letter.run_id = event.run_id;
  letter.type = event.type;
  letter.event_id = event.id;
  letter.sqlstate = error.sqlstate;
  letter.reason = error.message;
  letter.received_at = event.received_at;
  letter.record = reader_.record_of(spooled);
  if (const auto envelope = decode_envelope(letter.record); envelope) {
    letter.line = std::string(utf8_prefix(envelope.value().line, kDeadLineBytes));
  }
  return letter;
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
  return on_thread<Retried>([this, id] { return retry_now(id); });
}

Result<void> Recorder::remove_dead_letter(std::int64_t id) {
  return on_thread<void>([this, id] { return remove_now(id); });
}

namespace {

Error no_such_letter(std::int64_t id) {
  return Error{ErrorKind::kNotFound, fmt::format("there is no dead letter {}", id)};
}

Error foreign_letter(const DeadLetter& letter) {
  return Error{ErrorKind::kConflict,
               fmt::format("dead letter {} belongs to recorder {}: ask the daemon that has its spool", letter.id,
                           letter.recorder)};
}

}  // namespace

Result<Recorder::Retried> Recorder::retry_now(std::int64_t id) {
  for (int attempt = 0; attempt < kRetriesOfOneLetter; ++attempt) {
    const auto found = store_->find_dead_letter(id);
    if (!found) return lost(found.error());
    if (!found.value()) return no_such_letter(id);
    if (found.value()->recorder != self_.id) return foreign_letter(*found.value());
    auto retried = retry_once(*found.value());
    if (!retried) return retried.error();
    if (retried.value()) return *retried.value();
  }
  return Error{ErrorKind::kUnavailable, fmt::format("the run of dead letter {} changes too quickly, try again", id)};
}

// Empty: the row or the letter was not as expected.
Result<std::optional<Recorder::Retried>> Recorder::retry_once(const DeadLetter& letter) {
  auto event = decode_record(letter.record);
  if (!event) return std::optional(Retried::kDead);
  const std::string run_id = event.value().run_id;
  std::vector<SpooledEvent> events;
  events.push_back({0, std::move(event.value()), letter.record.size()});
  auto decision = decide_on(std::move(events), true);
  if (!decision) return refused_again(letter, decision.error());
  add_job_states(decision.value());
  BatchWrite write = place();
  --write.ledger.dead_letters;
  write.ledger.applied += decision.value().applied;
  write.ledger.duplicate += decision.value().duplicate;
  write.ledger.conflicts += decision.value().conflicts.size();
  write.runs = std::move(decision.value().runs);
  write.history = std::move(decision.value().history);
  write.retried = {letter.id};
  const auto committed = store_->commit(self_, write);
  cache_.erase(run_id);
  if (!committed) return refused_again(letter, committed.error());
  if (committed.value() == Committed::kMisplaced && !restand()) {
    return Error{ErrorKind::kUnavailable, "the database is away"};
  }
  if (committed.value() != Committed::kYes) return std::optional<Retried>();
  log_conflicts(decision.value().conflicts);
  const MutexLock lock(mutex_);
  progress_.set_ledger(write.ledger);
  return std::optional(decision.value().duplicate > 0 ? Retried::kDuplicate : Retried::kApplied);
}

// A letter that was refused again stays one, whatever of: that needs no proof. What failed by the connection, or by
// time, is noted over a new one; where there is none the database is away.
Result<std::optional<Recorder::Retried>> Recorder::refused_again(const DeadLetter& letter, const Error& error) {
  if (error.kind == ErrorKind::kInDoubt || blame_of(error) == Blame::kDatabase) return lost(error);
  if (blame_of(error) == Blame::kMoment) {
    auto store = open_store(options_.store);
    if (!store) return lost(store.error());
    store_ = std::move(store.value());
  }
  health_.count(error);
  const auto noted = store_->note_refused_retry(letter.id, error.sqlstate, error.message);
  if (!noted) return lost(noted.error());
  return std::optional(Retried::kDead);
}

Result<void> Recorder::remove_now(std::int64_t id) {
  const auto found = store_->find_dead_letter(id);
  if (!found) return lost(found.error());
  if (!found.value()) return no_such_letter(id);
  if (found.value()->recorder != self_.id) return foreign_letter(*found.value());
  const auto removed = store_->remove_dead_letter(id);
  if (!removed) return lost(removed.error());
  if (!removed.value()) return no_such_letter(id);
  const MutexLock lock(mutex_);
  Ledger ledger = progress_.ledger();
  --ledger.dead_letters;
  ++ledger.dead_letters_removed;
  progress_.set_ledger(ledger);
  return {};
}

}  // namespace run_recorder
