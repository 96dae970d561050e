#include "recorder/recorder.h"

#include <algorithm>
#include <random>

#include "base/url.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kIdleTurn{2'000};
constexpr std::chrono::minutes kTurnTime{2};  // several calls to the database, each to its deadline

constexpr milliseconds kHintEvery{1'000};
constexpr milliseconds kRoomKept{2'000};  // behind the last large batch
constexpr milliseconds kKeepPositionsEvery{30'000};

constexpr int kConflictLinesPerMinute = 20;
constexpr int kDeadLetterLinesPerMinute = 100;

constexpr std::chrono::seconds kPatience{10};  // of who asks for something to be done to a dead letter

// Spread so that many daemons do not come back in the same moment.
int spread_percent() {
  static thread_local std::minstd_rand random{std::random_device{}()};
  return std::uniform_int_distribution<int>(80, 120)(random);
}

// Longer than one that is alive stays silent: each idle turn checks whether its heartbeat is due.
milliseconds silence_of_the_ended(milliseconds heartbeat) {
  return heartbeat + heartbeat / 3 + kIdleTurn + milliseconds{1'000};
}

}  // namespace

Recorder::Recorder(RecorderOptions options, Spool& spool, NamedQueues queues)
    : options_(std::move(options)),
      spool_(spool),
      reader_(spool, options_.fresh_bytes, options_.batch_bytes),
      liveness_(kTurnTime),
      decider_(std::move(queues), options_.cache, options_.heartbeat_every, liveness_),
      batch_limit_(options_.batch_events),
      suspect_(options_.suspect),
      health_(redact_url(options_.store.url)),
      registration_(spool, health_, options_.host, options_.version,
                    database_kind(options_.store.url) == DatabaseKind::kSqlite,
                    silence_of_the_ended(options_.heartbeat)),
      acceptance_(reader_, decider_, health_, liveness_),
      desk_(desk_access()),
      index_watch_(options_.store, options_.migrate),
      conflicts_logged_(LogLevel::kWarning, kConflictLinesPerMinute, "more events contradicted their runs"),
      letters_logged_(LogLevel::kError, kDeadLetterLinesPerMinute, "more events became dead letters"),
      sequences_(LogLevel::kError, "a sequence is behind the ids in use", "all sequences are past the ids in use"),
      calls_([this] { wake(); }),
      progress_(known_incarnations(spool.incarnations(), spool.remembered()), spool.usage().first_seq,
                [&spool] { return spool.usage().last_seq; }),
      pacer_(options_.paced_events, options_.overlap_events, spool.usage().last_seq),
      pieces_{.rows = options_.piece_rows, .rest = [this] { rest(); }} {
  counters_.batch_sizes.assign(kBatchBounds.size() + 1, 0);
  // Until the hint or the database knows better.
  const RecorderSelf& self = registration_.own();
  if (self.id == self.origin) progress_.set_ledger({.applied = spool.usage().first_seq - 1});
  progress_.load_hint(spool.hint(), self.id, self.origin);
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
    if (throttled_ && steady_clock::now() < throttled_until()) return;
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

void Recorder::check_in_soon() {
  {
    const MutexLock lock(mutex_);
    check_in_soon_ = true;
  }
  wake();
}

void Recorder::wake() {
  {
    const MutexLock lock(mutex_);
    signalled_ = true;
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
  status.councils = councils_.totals();
  return status;
}

void Recorder::save_hint(bool now) {
  const auto time = steady_clock::now();
  if (!now && time - last_hint_ < kHintEvery) return;
  last_hint_ = time;
  const std::string hint = [this] {
    const MutexLock lock(mutex_);
    return progress_.hint(registration_.own().id);
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
  for (const CallQueue::Call& call : calls_.close()) call();
}

// Stopping while the database is away: what is spooled stays spooled, there is nothing to wait for.
bool Recorder::ends_early() const {
  const MutexLock lock(mutex_);
  return stopping_ && !store_;
}

bool Recorder::turn() {
  {
    const MutexLock lock(mutex_);
    signalled_ = false;
  }
  const std::vector<CallQueue::Call> calls = calls_.take();
  if (!calls.empty()) finish_commit();  // they use the store
  if (!store_ && !connect()) {
    for (const CallQueue::Call& call : calls) call();
    return false;
  }
  for (const CallQueue::Call& call : calls) call();
  if (store_) housekeep();
  if (!store_) return may_go_on();
  if (is_throttled()) return false;
  const bool was_committing = committing_.has_value();
  Batch batch = next_batch();
  if (batch.empty()) {
    finish_commit();
    return was_committing && may_go_on();
  }
  if (batch.unreadable.empty() && batch.events.size() >= options_.overlap_events && stored_lookups_ == 0 &&
      index_watch_.events_unique()) {
    has_room_ = true;
    last_large_batch_ = steady_clock::now();
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

steady_clock::time_point Recorder::throttled_until() const {
  if (readers_ > 0 || stopping_ || !calls_.empty()) return {};
  return pacer_.throttled_until(progress_.waiting());
}

bool Recorder::is_throttled() {
  const MutexLock lock(mutex_);
  throttled_ = !committing_ && steady_clock::now() < throttled_until();
  return throttled_;
}

void Recorder::wait_for_work() {
  MutexLock lock(mutex_);
  const bool was_stopping = stopping_;
  if (throttled_) {
    work_.wait_until(lock, throttled_until(), [&] {
      mutex_.assert_held();
      return steady_clock::now() >= throttled_until();
    });
    throttled_ = false;
    return;
  }
  if (store_) {
    const milliseconds idle = was_stopping ? milliseconds{10} : kIdleTurn;
    work_.wait_for(lock, idle, [&] {
      mutex_.assert_held();
      return signalled_ || !calls_.empty() || stopping_ != was_stopping;
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
  spool_.delete_expired(started_utc_ + std::chrono::duration_cast<std::chrono::microseconds>(now - started_));
  if (index_watch_.due(now) && (!finish_commit() || !check_indexes())) return;
  if (has_room_ && !committing_ && now - last_large_batch_ > kRoomKept) {
    has_room_ = false;
    reader_.release_room();
    decider_.release_room();
  }
  if (now - positions_kept_ >= kKeepPositionsEvery && (!finish_commit() || !keep_positions())) return;
  const bool asked = [this] {
    const MutexLock lock(mutex_);
    return std::exchange(check_in_soon_, false);
  }();
  if (committing_ || (!asked && now - last_heartbeat_ < options_.heartbeat)) return;  // a commit is a heartbeat too
  last_heartbeat_ = now;
  // The database may have been exchanged for one that forgot commits without a connection of ours that broke, as
  // behind a pooler. Whoever commits notices; who is idle has to ask, before the spool deletes its records too.
  const auto checkpoint = store_->check_in(registration_.own());
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
  return reader_.read(part, limit, registration_.own().id);
}

// Records that a copy of a spool lacks are not lost: the other one has them, and the position up to which they are
// applied is the same for both. What follows them in their range the other one has too. False: they are this one's.
bool Recorder::leave_to_original(const Batch& batch) {
  const MutexLock lock(mutex_);
  const IncarnationRange& range = progress_.ranges()[batch.range];
  const bool is_missing = batch.unreadable.front().record.empty();
  if (!is_missing || range.begin >= spool_.shared_before()) return false;
  log_warning("records are missing from this copy of a spool; they and all later ones are left to the original",
              {{"FROM", batch.from + 1}, {"TO", range.last}});
  progress_.leave_rest(batch.range);
  spool_.release(progress_.next_seq() - 1);
  return true;
}

// ---- dead letters

template <class T>
Result<T> Recorder::on_thread(std::function<Result<T>()> work) {
  const Error away{ErrorKind::kUnavailable, "the database is away"};
  const auto where_connected = [this, away, work = std::move(work)] { return store_ ? work() : Result<T>(away); };
  return calls_.run<T>(where_connected, kPatience, away);
}

Result<Recorder::Retried> Recorder::retry_dead_letter(std::int64_t id) {
  return on_thread<Retried>([this, id] { return desk_.retry(id); });
}

Result<void> Recorder::remove_dead_letter(std::int64_t id) {
  return on_thread<void>([this, id] { return desk_.remove(id); });
}

DeadLetterDesk::Recording Recorder::desk_access() {
  return {store_,
          registration_.own(),
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
          [this](const std::vector<Decision::Conflict>& conflicts) { log_conflicts(conflicts); },
          [this](std::span<const RunChange> changes) { councils_.committed(changes, now_utc()); }};
}

}  // namespace run_recorder
