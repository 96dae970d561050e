// From the spool to the rows: reads batches, decides, commits rows, history, ledger and position in one transaction
// each, and keeps trying while the database is away. One thread of its own; every public function may be called from
// any thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/result.h"
#include "queue/job_probe.h"
#include "recorder/acceptance_probe.h"
#include "recorder/batch_limit.h"
#include "recorder/batch_reader.h"
#include "recorder/call_queue.h"
#include "recorder/council_counts.h"
#include "recorder/database_health.h"
#include "recorder/dead_letter_desk.h"
#include "recorder/decision.h"
#include "recorder/event_decider.h"
#include "recorder/failure.h"
#include "recorder/fresh_events.h"
#include "recorder/heartbeats.h"
#include "recorder/index_watch.h"
#include "recorder/pace.h"
#include "recorder/registration.h"
#include "recorder/spool_progress.h"
#include "spool/spool.h"
#include "store/store.h"

namespace run_recorder {

struct RecorderOptions {
  StoreOptions store;
  bool migrate = true;  // bring the schema up to date on connecting; false: only verify it
  std::string host;
  std::string version;
  std::size_t batch_events = 4'000;
  std::size_t batch_bytes = 2'200'000;
  // While a backlog is worked off beside a few senders: events of a batch, which is written in pieces of so many
  // rows.
  std::size_t paced_events = 1'000;
  std::size_t piece_rows = 50;
  std::size_t overlap_events = 200;  // batches from this size on are decided while the one before is committed
  std::size_t fresh_bytes = 3'000'000;
  RowCacheSize cache{.bytes = 4'000'000, .open_runs = 500'000};
  std::chrono::milliseconds heartbeat_every =
      Heartbeats::kWriteEvery;                  // a row is renewed by a bare heartbeat once in so long
  SuspectPolicy suspect;                        // when an event that only ever fails by time becomes a dead letter
  std::chrono::milliseconds heartbeat{15'000};  // an idle daemon shows itself, and checks whether the database forgot
};

struct RecorderStatus {
  Ledger ledger;
  std::uint64_t waiting = 0;
  std::uint64_t accepted = 0;   // ledger.consumed() + waiting
  std::uint64_t forgotten = 0;  // applied once, then forgotten by the database, and no longer kept
  std::uint64_t damaged = 0;    // records lost to damage in the spool, now dead letters
  DatabaseState database = DatabaseState::kConnecting;
  std::string database_error;               // why it is away or refusing; empty when up
  std::optional<Timestamp> database_since;  // since when the state holds
  std::optional<IndexWait> waiting_for;     // also while the state is up
  std::uint64_t reconnects = 0;
  std::uint64_t batches = 0;
  std::map<std::string, std::uint64_t> errors;  // store errors by kind: SQLSTATE, else a word
  std::vector<std::uint64_t> batch_sizes;       // histogram, cumulative counts for kBatchBounds and +Inf
  std::uint64_t batch_events = 0;               // sum of all batches' sizes
  std::vector<CouncilTotals> councils;
};
inline constexpr std::array<std::uint64_t, 7> kBatchBounds{1, 3, 10, 30, 100, 300, 1'000};

class Recorder {
 public:
  // The spool outlives it. queues: for oban_job_state_at_finalize; may be empty.
  Recorder(RecorderOptions options, Spool& spool, NamedQueues queues);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // Once.
  void start();
  // Applies what can be applied within timeout, then ends. False: something is left, in the spool.
  bool stop(std::chrono::milliseconds timeout);

  // Freshly durable events, in order; called before they are acknowledged.
  void accept(std::vector<SpooledEvent>&& events);

  // Waits until everything up to seq is applied. False: not within timeout.
  bool wait_applied(std::uint64_t seq, std::chrono::milliseconds timeout);
  // The sequence number of the newest durable record: what a reader waits for.
  std::uint64_t accepted_seq() const;
  // How many records up to seq are not applied yet.
  std::uint64_t pending_until(std::uint64_t seq) const;

  // Waits until the tables are there as this daemon needs them, which at a first start takes a moment. False: not
  // within timeout, or the database is away.
  bool wait_tables(std::chrono::milliseconds timeout);
  // Somebody else's call to the database failed: the recorder checks in at once, which tells whether its own
  // connection is still good. Does not wait.
  void check_in_soon();

  RecorderStatus status() const;
  DatabaseStatus database() const { return health_.status(); }
  // Its id changes where another process turns out to record under it.
  RecorderSelf self() const { return registration_.self(); }
  // See Registration.
  bool wait_settled(std::chrono::milliseconds timeout) { return registration_.wait_settled(timeout); }
  // Whether the run gave a heartbeat after then, as far as it is decided: also one that did not write its row.
  // Asked before a row is marked: where the answer is no, the run's next heartbeat sees the row as it is by then.
  bool beat_since(std::string_view run_id, std::chrono::steady_clock::time_point then) const;
  // The run's latest heartbeat, where its row may not have it yet.
  std::optional<std::chrono::steady_clock::time_point> last_beat(std::string_view run_id) const;
  // When the database came back after it had been away; empty: it never was. For judging other recorders.
  std::optional<std::chrono::steady_clock::time_point> back_since() const;

  // For who marks runs, and reads rows.
  CouncilCounts& councils() { return councils_; }

  // On the recorder's own thread, because the ledger is its. kNotFound, kConflict (another recorder's), kUnavailable.
  using Retried = DeadLetterDesk::Retried;
  Result<Retried> retry_dead_letter(std::int64_t id);
  Result<void> remove_dead_letter(std::int64_t id);

  // For the watchdog: the recorder's thread makes no progress, in a call that hangs past its deadline.
  bool stuck() const { return liveness_.missed(); }

 private:
  // What a batch writes, as decided.
  struct PlannedWrite {
    std::size_t range = 0;
    std::size_t events = 0;
    BatchWrite write;
    std::vector<Decision::Conflict> conflicts;
    std::vector<std::string> beating;  // see Decision
  };
  // It is being committed while the next one is decided. Its events are gone into what is written; should that fail,
  // the spool has them.
  struct Committing {
    PlannedWrite planned;
    std::unique_ptr<PreparedWrite> prepared;
    std::future<Result<Committed>> outcome;
  };

  // ---- the loop; all below is the recorder's thread's, but for wake() and on_thread()
  void wake();
  void run();
  bool turn();  // false: nothing to do now
  bool ends_early() const;
  bool may_go_on() const;  // without waiting for the backoff
  // Until when nothing is committed although something waits; not while somebody waits for it.
  std::chrono::steady_clock::time_point throttled_until() const REQUIRES(mutex_);
  bool is_throttled();
  void wait_for_work();
  void housekeep();  // hint, retention of the spool, indexes, heartbeat; may lose the connection
  void save_hint(bool now);
  template <class T>
  Result<T> on_thread(std::function<Result<T>()> work);  // kUnavailable: not connected, or not within 10 s

  // ---- the connection; false: it is given up
  bool connect();
  bool check_indexes();
  bool keep_positions();
  bool read_checkpoint();
  bool matches_checkpoint(const Checkpoint& checkpoint) const;
  void adopt(const Checkpoint& checkpoint);
  void count_forgotten();
  std::optional<BatchWrite> next_forgotten();
  void lose_connection(const Error& error);
  void lose_batch(const Error& error, std::size_t events);
  void log_sequences(const Checkpoint& checkpoint);

  // ---- batches
  std::size_t batch_limit();  // in events
  Batch next_batch();
  bool leave_to_original(const Batch& batch);
  void overlap(Batch batch);
  // written: gets what was committed, whose runs the caller counts, so that neither that nor letting go of it holds
  // up the next commit.
  bool finish_commit(std::optional<PlannedWrite>* written = nullptr);
  // Both return false when the connection is lost or the position has to be read again.
  bool apply_events(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to);
  bool set_aside(std::vector<DeadLetter> letters, std::size_t range, std::uint64_t to);
  Result<Committed> try_until_settled(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to,
                                      bool& inserts);
  // One try. inserts: whether it makes a row.
  Result<Committed> try_events(std::span<const SpooledEvent> events, std::size_t range, std::uint64_t to,
                               Lookup lookup, bool& inserts);
  Result<PlannedWrite> plan_write(std::vector<SpooledEvent> events, std::size_t range, std::uint64_t to,
                                  Lookup lookup);
  Result<Committed> commit(const BatchWrite& write, std::size_t events);
  const WritePieces* pieces_now() const;  // for the next commit; nullptr: all at once
  // On the thread that commits.
  void begin_writing();
  void rest();  // behind a piece
  void note_commit(std::size_t events);
  void advance(std::size_t range, std::uint64_t to, const Ledger& ledger);
  // Whether the database takes other events than this one, which it refused. Where it does not, it is the database
  // that refuses, and the connection is lost.
  bool takes_others_than(const Refused& refused, const SpooledEvent& event);
  BatchWrite place() const;  // see SpoolProgress
  BatchWrite next_write(std::size_t range) const;
  DeadLetterDesk::Recording desk_access();
  void log_conflicts(const std::vector<Decision::Conflict>& conflicts);

  const RecorderOptions options_;
  Spool& spool_;
  BatchReader reader_;
  std::thread thread_;
  Liveness liveness_;
  mutable EventDecider decider_;
  const Timestamp started_utc_ = now_utc();
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  // The recorder's thread only.
  std::unique_ptr<Store> store_;  // the commit's while committing_
  std::optional<Committing> committing_;
  BatchLimit batch_limit_;
  Suspect suspect_;
  int stored_lookups_ = 0;  // how many more batches are decided from stored rows, after one was raced
  DatabaseHealth health_;
  Registration registration_;  // self() and wait_settled() for any thread
  AcceptanceProbe acceptance_;
  DeadLetterDesk desk_;
  IndexWatch index_watch_;
  std::chrono::steady_clock::time_point last_heartbeat_{};
  std::chrono::steady_clock::time_point positions_kept_{};
  std::chrono::steady_clock::time_point last_hint_{};
  bool has_room_ = false;  // of large batches, kept for the next
  std::chrono::steady_clock::time_point last_large_batch_{};
  RateLimiter conflicts_logged_;
  RateLimiter letters_logged_;
  RepeatGuard sequences_;

  CallQueue calls_;
  CouncilCounts councils_;

  mutable Mutex mutex_;
  Condition work_;     // new events, a task, or stopping
  Condition applied_;  // the position moved
  SpoolProgress progress_ GUARDED_BY(mutex_);
  RecorderStatus counters_ GUARDED_BY(mutex_);  // the fields that are counted here
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool signalled_ GUARDED_BY(mutex_) = false;
  bool tables_ GUARDED_BY(mutex_) = false;         // they were brought up to date since the start
  bool check_in_soon_ GUARDED_BY(mutex_) = false;  // not only when the next heartbeat is due
  // The thread waits although there are events, and more of them need not wake it.
  bool throttled_ GUARDED_BY(mutex_) = false;
  Pacer pacer_ GUARDED_BY(mutex_);
  const WritePieces pieces_;
  std::chrono::steady_clock::time_point wrote_since_ GUARDED_BY(mutex_){};  // the commit, behind its last rest
  int readers_ GUARDED_BY(mutex_) = 0;                                      // who waits for what is applied
  std::chrono::steady_clock::time_point stop_by_ GUARDED_BY(mutex_){};
};

}  // namespace run_recorder
