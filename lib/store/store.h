// The port to the database: loads and saves rows, decides nothing. Two adapters, PostgreSQL and SQLite, held to one
// conformance suite (tests/unit/store). A Store is one connection with plain blocking calls, for one thread at a
// time; each thread that needs one opens its own. Every call ends within the deadline it was opened with, also
// against a frozen server. A connection that the server closed while nobody called is made again without a word.
//
// Errors of every call: kUnavailable (away, slow, refusing; reconnect and try later), kRefused (this database refuses
// this daemon), of lists kInvalid (a cursor that is none), and where named kData, kInDoubt, kNotFound. After
// kUnavailable or kInDoubt the Store must be thrown away, but for a kUnavailable with a SQLSTATE that only names what
// was refused (recorder/failure.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "run/names.h"
#include "run/run.h"
#include "store/finding.h"

namespace run_recorder {

// The ledger of contract section 2.4, as the database keeps it per recorder. consumed() + waiting = accepted.
struct Ledger {
  std::uint64_t applied = 0;
  std::uint64_t duplicate = 0;
  std::uint64_t dead_letters = 0;  // present now
  std::uint64_t dead_letters_removed = 0;
  std::uint64_t conflicts = 0;  // among applied
  std::uint64_t consumed() const { return applied + duplicate + dead_letters + dead_letters_removed; }
  bool operator==(const Ledger&) const = default;
};

struct RecorderSelf {
  std::string id;           // the spool's id
  std::string incarnation;  // the spool's current incarnation
  std::string host;
  std::string version;
  std::string origin = {};  // the spool's origin: whose positions these are; empty: id
  const std::string& positions_of() const { return origin.empty() ? id : origin; }
  RecordedBy recorded_by() const { return {.recorder = id, .host = host}; }
};

// Who records under an id: at most one incarnation at a time.
struct Holder {
  std::string incarnation;
  std::string host;
  std::string last_seen;                 // by the database's clock; only to be compared
  std::chrono::milliseconds seen_ago{};  // likewise
};

// How far a recorder has come in this database, as check_in() reads it.
struct Checkpoint {
  std::optional<Holder> holder;  // another incarnation records under this id: nothing was changed or read
  Ledger ledger;
  std::map<std::string, std::uint64_t> applied;  // incarnation id -> highest sequence number applied
  // Sequences of ids that stood behind the ids in use and were set, or that this role may not set; in words.
  std::vector<std::string> sequences;
};

// The indexes of runs and their history that are built beside the writers.
struct IndexState {
  // A valid unique index keeps an event's id from coming twice in a run: commit() is refused then (kRaced). Without
  // it only who looked at known_events() behind load() knows.
  bool events_unique = true;
  std::string missing;     // the names of those that are not valid; empty: all are
  std::string held_up_by;  // who the building waits for, in words; empty: nobody, or nothing is being built
  std::string sql;         // what builds the missing ones by hand
};

// A change whose after.last_seq is the expected one (a heartbeat without an entry in the history) is guarded as the
// others are, and renews updated_at and last_event_at.
struct RunChange {
  Run after;  // the whole row; what of its JSON was not loaded stays as it is
  std::int64_t expected_last_seq = 0;
  bool insert = false;          // there must be no such row yet
  bool fields_changed = false;  // see Transition
  bool outcome_changed = false;
  bool reports_changed = false;
  // For who counts what was committed; a Store does not look at them.
  bool started = false;  // it got its started_at
  bool ended = false;    // it became completed, failed, cancelled or stuck
};

// A heartbeat that only renews the times of a row and who vouches for it. The row must be running and the recorder's
// own; whatever version it has.
struct BeatWrite {
  std::string run_id;
  std::optional<std::string> worker_process;  // empty members leave the row's
  std::string sender_process;
  std::string connection;
  std::optional<std::int32_t> expires_in;  // seconds
};

struct DeadLetter {
  std::int64_t id = 0;  // the database's
  std::string recorder;
  std::string run_id;  // may be empty where not even that could be read
  std::string type;
  std::optional<std::string> event_id;
  std::string record;  // the spool record's body (binary; kept as base64 or bytea)
  std::string line;    // what the sender sent, for people
  std::string sqlstate;
  std::string reason;  // the database's own words
  std::int64_t tries = 1;
  std::optional<Timestamp> received_at;
  std::optional<Timestamp> inserted_at;
};

// What a terminal event says of its run's outcome, to be compared with what the row has.
struct SaidOutcome {
  std::string run_id;
  Outcome said;
};

// One transaction of the recorder: rows, history, dead letters, ledger and position together.
struct BatchWrite {
  std::vector<RunChange> runs;   // at most one per run
  std::vector<BeatWrite> beats;  // of other runs than those; kRaced where a row is not as it must be
  std::vector<HistoryEntry> history;
  std::vector<DeadLetter> dead_letters;
  std::vector<std::int64_t> retried;  // dead letters that this batch takes out again
  std::string incarnation;            // whose position moves; empty: none does (a retry)
  std::uint64_t from = 0;             // the position must be this (0 also where there is none)
  std::uint64_t to = 0;
  Ledger ledger;  // the recorder's ledger after this batch
};

enum class Committed {
  kYes,
  kRaced,      // a row or a history entry was not as expected, nothing was written: load again and decide again
  kCollided,   // a deadlock or a serialization failure with others, nothing was written: the same again helps
  kMisplaced,  // the position was not `from`, or another incarnation holds the id; nothing was written: read
               // check_in() again
};

// A page of runs looks at no more than so many rows in the list's order…
inline constexpr std::size_t kExaminedRows = 20'000;
// …and where an index finds no more than so many, at all of these. Both take well below the 200 ms that a page may.
inline constexpr std::size_t kFewRows = 5'000;

// Nothing is counted further than this: counting takes as long as there are rows.
inline constexpr std::size_t kCountedRows = 100'000;

// Which time orders a list of runs, and is meant by since and until.
enum class RunOrder {
  kRecorded,  // inserted_at: a walk over all pages meets every row
  kStarted,   // started_at, or inserted_at where there is none: a row that starts meanwhile moves ahead of the walk
};

struct RunFilter {
  std::vector<Status> statuses;
  std::optional<std::string> council;
  std::optional<std::string> council_glob;         // a pattern as in text_match.h
  std::optional<std::string> host, unit, os_user;  // patterns too
  std::optional<std::string> id_prefix;            // of the first 1,000 ids that begin so
  std::optional<std::int64_t> oban_job_id;
  std::optional<std::string> job;    // job_id, or oban_job_id as text
  std::optional<std::string> queue;  // "default" also finds rows with a job whose queue nobody named
  std::optional<std::string> pass;   // rows that this pass marked, whatever became of them
  std::optional<std::chrono::milliseconds> longer_than;  // ended or running, and not stuck
  std::optional<std::string> error_text;                 // within the error's JSON, in any case of letters
  std::optional<std::int64_t> exit_status;               // that exec recorded
  RunOrder by = RunOrder::kRecorded;
  std::optional<Timestamp> since;  // at or after
  std::optional<Timestamp> until;  // before
  std::size_t limit = 100;
  std::string cursor;  // from RunPage::next; empty: the first page
  std::size_t examine = kExaminedRows;
};
// A page may have fewer rows than asked for, or none, and still a next: where so many rows were looked at. What an
// index finds is looked at as a whole, where it is little.
struct RunPage {
  std::vector<Run> runs;  // newest first (that time, run_id descending); without input and result
  std::string next;       // empty: no more
  std::optional<Timestamp> examined_until = {};  // where it ended for that reason: the time of the last row looked at
};

struct ChainPage {
  std::vector<Run> runs;   // from the root down; without input and result
  std::string next;        // empty: no more
  bool truncated = false;  // the chain has more rows than are looked at
};

struct StoredEvent {
  std::int64_t id = 0;
  HistoryEntry entry;
  std::optional<Timestamp> inserted_at;
  std::string recorder;
};
struct EventPage {
  std::vector<StoredEvent> events;  // by seq
  std::string next;
};

struct RunningRow {
  Run run;  // without input, result, error, usage, progress; may lack inserted_at, updated_at
  std::chrono::milliseconds silence{};  // since last_event_at (or updated_at), by the database's clock
  bool in_future = false;               // its last event lies ahead of that clock, which has been set back
  std::string last_event;               // when that event was applied, as text that is only to be compared
  std::optional<std::chrono::milliseconds>
      recorder_seen_ago;     // of run.recorder; empty: this database does not know it
  bool dead_letter = false;  // an event of this run is a dead letter
};

// `running` rows of which the same is known, but for their age: who wrote them last, who works on them, who told of
// them last, over which connection. No event of them is a dead letter.
struct RunningGroup {
  std::string recorder;
  std::string worker_process;
  std::string sender_process;
  std::string connection;
  bool expires = false;  // they have an expires_in, each its own
  std::uint64_t rows = 0;
};
struct RunningGroups {
  bool with_jobs = false;            // rows that name a job are among them too
  std::vector<RunningGroup> groups;  // those of most rows first
  std::uint64_t others = 0;          // rows that are in none of these
};

// When the last event of the rows that are asked for was applied.
struct EventWindow {
  std::optional<Timestamp> not_before = {};  // at this time or later
  Timestamp before{};                        // and at this time or earlier
  std::optional<Timestamp> ahead_of = {};    // or later than this: of a clock that has been set back
};

// A row as the retention looks at it.
struct AgedRow {
  std::string run_id;
  std::string council;
  Status status = Status::kQueued;
  std::int64_t last_seq = 0;
  std::chrono::milliseconds age{};  // since its last event was applied or it was found stuck, by the database's clock
  bool linked = false;              // it may belong to a chain: it names a parent, or another row names it
  bool dead_letter = false;         // an event of this run is a dead letter
};
struct AgedPage {
  std::vector<AgedRow> rows;  // oldest first (inserted_at, run_id), whatever their status
  std::string next;           // empty: no more
};
struct Pruned {
  std::uint64_t runs = 0;
  std::uint64_t events = 0;
};

// A pass as the retention looks at it: all but its report.
struct AgedPass {
  std::string pass_id;
  std::string trigger;
  std::chrono::milliseconds age{};  // since it began, by the database's clock
  std::uint64_t bytes = 0;          // of its report, as the database keeps it
  bool marked = false;              // its report says so, or the history of a run names it
};
struct AgedPassPage {
  std::vector<AgedPass> passes;  // newest first
  std::string next;              // empty: no more
};
struct ForgottenRecorders {
  std::uint64_t recorders = 0;
  std::uint64_t positions = 0;  // of these recorders
};

struct StuckMark {
  std::string run_id;
  std::int64_t expected_last_seq = 0;
  JsonText error;                             // the error object, also the payload of run_stuck
  std::optional<std::string> job_state = {};  // oban_job_state_at_finalize
  // As RunningRow::last_event had it: a heartbeat does not raise last_seq. Empty: not compared.
  std::optional<std::string> expected_last_event = {};
  Status expected_status = Status::kRunning;  // or kQueued
};

// The newest runs of a council, as they say; a time ahead of the one when the row was written counts as that.
struct RecentCouncil {
  std::string council;
  std::optional<Timestamp> last_start;
  std::optional<Timestamp> last_success;  // when one of them that is completed ended
};
struct RunningCouncils {
  std::map<std::string, std::uint64_t> rows;  // by council, those that have most
  std::uint64_t others = 0;                   // rows of all other councils
};

struct ReconciliationRow {
  std::string pass_id;
  std::string recorder;
  std::string trigger;
  Timestamp started_at{};
  std::optional<Timestamp> finished_at;
  JsonText report;
};
struct ReconciliationPage {
  std::vector<ReconciliationRow> passes;  // newest first
  std::string next;
};
struct DeadLetterPage {
  std::vector<DeadLetter> dead_letters;  // oldest first
  std::string next;
};

// ---- what moves to another database, beside history, passes and dead letters
struct WholeRun {
  Run run;            // with everything
  std::string place;  // the cursor of the page after it
};
struct WholePage {
  std::vector<WholeRun> runs;  // oldest first (inserted_at, run_id)
  std::string next;            // empty: no more
};
struct PrunedRun {
  std::string run_id;
  Timestamp pruned_at{};
};
struct PrunedPage {
  std::vector<PrunedRun> runs;  // by run_id
  std::string next;
};
// A row with its whole history, as another database had them.
struct MovedRun {
  Run run;
  std::vector<StoredEvent> history;
};
// What a database has of a recorder: all that it needs to go on there with its spool.
struct RecorderRow {
  RecorderSelf self;
  std::optional<Timestamp> first_seen, last_seen;
  Checkpoint checkpoint;
};

// What a Store makes ready of a batch before it is written, for itself.
class PreparedWrite {
 public:
  virtual ~PreparedWrite() = default;
};

// A batch is written in pieces of so many rows, each followed by a rest, so that others on the machine have its
// processors in between. Still one transaction.
struct WritePieces {
  std::size_t rows = 0;
  // Called on the thread that commits, in the open transaction.
  std::function<void()> rest;
};
struct CommitHow {
  const PreparedWrite* prepared = nullptr;  // prepare()'s of the same batch
  const WritePieces* pieces = nullptr;      // nullptr: all at once
};

// The lease of all passes on a database.
inline constexpr std::string_view kPassLease = "reconcile";

class Store {
 public:
  virtual ~Store() = default;

  // ---- the recorder's side: one transaction each
  // Registers the recorder where it is new, sets its last seen to the database's now, and reads its checkpoint. Where
  // another incarnation holds the id, says so. Sets sequences of ids that are behind, as after a logical switch-over.
  virtual Result<Checkpoint> check_in(const RecorderSelf& self) = 0;
  // Takes the id over from an incarnation, as check_in() named it. False: another one holds it by now.
  virtual Result<bool> take_over(const RecorderSelf& self, std::string_view from) = 0;
  // A spool of this origin knows these incarnations: their positions are not to be forgotten (forget_positions()).
  // Writes only what is older than kPositionsRenewed. Not in a transaction of commit().
  virtual Result<void> keep_positions(const std::string& origin, std::span<const std::string> incarnations) = 0;
  static constexpr std::chrono::hours kPositionsRenewed{24};
  // Rows by run_id, for deciding; missing ones are left out. What they weigh in memory does not depend on what they
  // hold: of input, result and error it is only known whether they are there, usage and progress are small, and
  // inserted_at, updated_at and last_event_at are left out.
  virtual Result<std::vector<Run>> load(std::span<const std::string> run_ids) = 0;
  // Each compared with the row of its run, in their order. Takes memory for what is said, not for what rows hold.
  virtual Result<std::vector<SameOutcome>> compare_outcomes(std::span<const SaidOutcome> said) = 0;
  // Which of these (run_id, event id) are already in the history. In no particular order.
  virtual Result<std::vector<std::pair<std::string, std::string>>> known_events(
      std::span<const std::pair<std::string, std::string>> ids) = 0;
  // All or nothing. kData: the database refuses some row of it. kRefused, here and at check_in(): a newer daemon has
  // migrated the tables, and this one may not write beside it. kInDoubt: check_in() of a new Store tells. An id that
  // is taken because a sequence is behind is kCollided, or kRefused where this role may not set the sequence.
  virtual Result<Committed> commit(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how) = 0;
  Result<Committed> commit(const RecorderSelf& self, const BatchWrite& batch) { return commit(self, batch, {}); }
  // What takes no database, so that it can be done while another batch is being committed; from any thread. nullptr:
  // nothing.
  virtual std::unique_ptr<PreparedWrite> prepare(const RecorderSelf& self, const BatchWrite& batch) const {
    static_cast<void>(self), static_cast<void>(batch);
    return nullptr;
  }
  // Whether the database would take these batches, one behind the other: writes them as commit() does, has it look at
  // what it otherwise looks at in COMMIT, and rolls back. `from` and `to` of all are where the position is.
  virtual Result<Committed> rehearse(const RecorderSelf& self, std::span<const BatchWrite> batches) = 0;
  virtual Result<IndexState> indexes() = 0;

  // ---- reading
  virtual Result<RunPage> list_runs(const RunFilter& filter) = 0;
  virtual Result<std::optional<Run>> find_run(std::string_view run_id) = 0;
  virtual Result<EventPage> list_events(std::string_view run_id, std::size_t limit, std::string_view cursor) = 0;
  // The rows of the chain run_id is in, from the root down (parent before child, then attempt, started_at): the 1,000
  // nearest to it, page by page; loops in the data end. No rows without a cursor: no such run.
  virtual Result<ChainPage> chain(std::string_view run_id, std::size_t limit, std::string_view cursor) = 0;
  // Of the passes whose id begins with id_prefix; empty: all.
  virtual Result<ReconciliationPage> list_reconciliations(std::size_t limit, std::string_view cursor,
                                                          std::string_view id_prefix) = 0;
  // Rows by status: exact in a table of up to kCountedRows rows. Of a larger one each status is counted up to that,
  // but completed, which is estimated from the table's size.
  virtual Result<std::map<Status, std::uint64_t>> count_by_status() = 0;

  // ---- dead letters
  virtual Result<DeadLetterPage> list_dead_letters(std::size_t limit, std::string_view cursor) = 0;
  virtual Result<std::optional<DeadLetter>> find_dead_letter(std::int64_t id) = 0;
  // A letter was tried again and refused again: counts the try and keeps the newest words.
  virtual Result<void> note_refused_retry(std::int64_t id, std::string_view sqlstate, std::string_view reason) = 0;
  // Moves its recorder's ledger from dead_letters to dead_letters_removed in the same transaction. False: no such.
  virtual Result<bool> remove_dead_letter(std::int64_t id) = 0;

  // ---- reconciling
  virtual Result<Timestamp> database_now() = 0;
  // How long the database server itself has been up; empty for SQLite.
  virtual Result<std::optional<std::chrono::milliseconds>> server_age() = 0;
  // Takes or renews a lease, what one daemon at a time may do on this database, with an expiry; false: another holds
  // it.
  virtual Result<bool> acquire_lease(std::string_view name, std::string_view holder,
                                     std::chrono::milliseconds expiry) = 0;
  virtual Result<void> release_lease(std::string_view name, std::string_view holder) = 0;
  // The `running` rows whose last event was applied within the window, counted in at most `limit` groups; with_jobs:
  // also those that name a job.
  virtual Result<RunningGroups> running_groups(const EventWindow& window, bool with_jobs, std::size_t limit) = 0;
  // `running` rows with run_id > after, by run_id, whose last event was applied within the window, but for those of
  // groups that running_groups() gave.
  virtual Result<std::vector<RunningRow>> running_rows(std::string_view after, std::size_t limit,
                                                       const EventWindow& window,
                                                       const RunningGroups& without = {}) = 0;
  // The same of `queued` rows that name a job.
  virtual Result<std::vector<RunningRow>> queued_rows(std::string_view after, std::size_t limit,
                                                      const EventWindow& window) = 0;
  // How many running rows, or queued ones that name a job, have a last event later than `after` (the pass's deferred
  // ones), but not later than `until`.
  virtual Result<std::uint64_t> count_running_since(Timestamp after, std::optional<Timestamp> until = {}) = 0;
  virtual Result<std::uint64_t> count_queued_since(Timestamp after) = 0;
  // How many rows are `running`, of the first kCountedRows of them; names at most so many councils.
  virtual Result<RunningCouncils> running_councils(std::size_t limit) = 0;
  // Of the `rows` runs that started last, and as many of those that never did, what this recorder or none wrote last:
  // at most so many councils, those with most runs first.
  virtual Result<std::vector<RecentCouncil>> recent_councils(std::string_view recorder, std::size_t rows,
                                                             std::size_t limit) = 0;
  // `running` rows with run_id > after, by run_id, whose worker or latest sender is one of these processes, or whose
  // latest event came over one of these connections.
  virtual Result<std::vector<RunningRow>> running_rows_of(std::span<const std::string> processes,
                                                          std::span<const std::string> connections,
                                                          std::string_view after, std::size_t limit) = 0;
  // Rows whatever their status, in no particular order; missing ones are left out.
  virtual Result<std::vector<RunningRow>> rows_named(std::span<const std::string> run_ids) = 0;
  // One row whatever its status; empty: no such run.
  virtual Result<std::optional<RunningRow>> running_row(std::string_view run_id) = 0;
  // Marks each row that still has the expected status, last_seq and last event: status, finalized_at, error, history.
  // Returns the run_ids that were marked; the others moved meanwhile.
  virtual Result<std::vector<std::string>> mark_stuck(const RecorderSelf& self, std::string_view pass_id,
                                                      std::span<const StuckMark> marks) = 0;
  struct Undone {
    std::uint64_t undone = 0;
    std::uint64_t moved = 0;  // marked by the pass, but moved since
  };
  // Returns its rows to the status they had. kNotFound: no such pass. In bounded transactions.
  virtual Result<Undone> undo_pass(const RecorderSelf& self, std::string_view pass_id) = 0;
  virtual Result<void> save_reconciliation(const ReconciliationRow& row) = 0;

  // ---- expectations
  // Remembers each by its name, that it has this definition since now where it is new or had another, and that this
  // recorder judges it now. Not what another recorder judged under another definition less than kJudgedLately ago.
  virtual Result<void> adopt_expectations(const RecorderSelf& self, std::span<const ExpectationDefinition> all) = 0;
  virtual Result<std::vector<KnownExpectation>> known_expectations() = 0;  // by name
  // Ends, as "changed", what is open of expectations that nobody adopted for so long; how many.
  virtual Result<std::uint64_t> end_abandoned_findings(std::chrono::milliseconds unadopted_for) = 0;
  // The councils that any run has, in no particular order; at most limit.
  virtual Result<std::vector<std::string>> council_names(std::size_t limit) = 0;
  // Of each of these councils the run that started last, as far as its newest kStartedRows rows that ever started
  // tell; those of which none did are left out.
  virtual Result<std::vector<StartedRun>> last_starts(std::span<const std::string> councils) = 0;
  // `running` rows that say that they started no later than then, by run_id, those after the given one.
  virtual Result<std::vector<RunningRow>> long_running(Timestamp started_until, std::string_view after,
                                                       std::size_t limit) = 0;
  // How long each of the `limit` completed runs of a council took that were recorded last, in no particular order.
  virtual Result<std::vector<std::chrono::milliseconds>> durations(std::string_view council, std::size_t limit) = 0;
  // In one transaction. Which of them, in their order, were opened: of the others there is an open one.
  virtual Result<std::vector<bool>> open_findings(const RecorderSelf& self, std::span<const NewFinding> findings) = 0;
  // In one transaction. Which of them, in their order, were ended: the others are ended already.
  virtual Result<std::vector<bool>> end_findings(std::span<const FindingEnd> ends) = 0;
  virtual Result<FindingPage> list_findings(const FindingFilter& filter, std::size_t limit,
                                            std::string_view cursor) = 0;
  // Forgets findings that ended longer ago than this, at most limit; how many it forgot.
  virtual Result<std::uint64_t> forget_findings(std::chrono::milliseconds older_than, std::size_t limit) = 0;

  // ---- moving: rows as they were in another database, with their times. Each call is one transaction; what is there
  // already is never changed.
  virtual Result<WholePage> whole_runs(std::size_t limit, std::string_view cursor) = 0;
  virtual Result<PrunedPage> list_pruned(std::size_t limit, std::string_view cursor) = 0;
  // By id, those after the given one.
  virtual Result<std::vector<RecorderRow>> list_recorders(std::string_view after, std::size_t limit) = 0;
  // Rows with their whole histories (their ids are not kept), each run at most once; a removed run's id is forgotten
  // by its row. Which of them, in their order, were new: of the others there is such a row, or a part of its history,
  // and nothing was written of them. An error is one of all: nothing was written.
  virtual Result<std::vector<bool>> insert_whole(std::span<const MovedRun> runs) = 0;
  // A large history comes in parts, and its row when all are there: until then nobody sees the run, and an event of
  // it that is applied meanwhile becomes a dead letter. kConflict: there is a row. kData: an entry is there already.
  virtual Result<void> insert_history(std::string_view run_id, std::span<const StoredEvent> part) = 0;
  // The row of a history that is there. False: there is such a row. kInvalid: the history is not 1 … last_seq.
  virtual Result<bool> insert_row(const Run& run) = 0;
  // Takes a history without a row out again.
  virtual Result<void> remove_history(std::string_view run_id) = 0;
  // How many were not remembered yet and have no row.
  virtual Result<std::uint64_t> insert_pruned(std::span<const PrunedRun> runs) = 0;
  virtual Result<bool> insert_reconciliation(const ReconciliationRow& row) = 0;  // false: it is there
  // With an id of its own. False: it is there. kConflict: its recorder is known here, and has its own.
  virtual Result<bool> insert_dead_letter(const DeadLetter& letter) = 0;
  // False: it is known here. kConflict: not all of its dead letters are here.
  virtual Result<bool> insert_recorder(const RecorderRow& row) = 0;

  // ---- retention
  // Rows that were inserted before then; limit bounds what is looked at, too.
  virtual Result<AgedPage> aged_rows(Timestamp before, std::size_t limit, std::string_view cursor) = 0;
  // All rows of the chain run_id is in, itself among them, in no particular order; at most limit.
  virtual Result<std::vector<AgedRow>> aged_chain(std::string_view run_id, std::size_t limit) = 0;
  // Removes chains (a run without a chain is one of its own) with their history, in one transaction, and remembers
  // their ids. A chain stays as a whole where one of its rows moved since it was read, is no longer terminal, has a
  // dead letter or a child outside of the chain, or is held by somebody else.
  virtual Result<Pruned> prune(std::span<const std::vector<AgedRow>> chains) = 0;
  // Which of these were removed and are still remembered: commit() inserts no row for them (kRaced).
  virtual Result<std::vector<std::string>> pruned(std::span<const std::string> run_ids) = 0;
  // Forgets the ids of runs that were removed longer ago than this, at most limit; how many it forgot.
  virtual Result<std::uint64_t> forget_pruned(std::chrono::milliseconds older_than, std::size_t limit) = 0;
  // Passes with what decides which of their reports go, and removing those: how many it removed. What a pass marked
  // stays marked, is listed by it and can be undone.
  virtual Result<AgedPassPage> aged_passes(std::size_t limit, std::string_view cursor) = 0;
  virtual Result<std::uint64_t> remove_passes(std::span<const std::string> pass_ids) = 0;
  // Forgets positions that nobody has moved or kept (keep_positions()) for so long, but for the `spare` newest of
  // each origin whose recorder is known; at most limit. A forgotten position is 0: it makes no record look applied.
  virtual Result<std::uint64_t> forget_positions(std::chrono::milliseconds unused_for, std::size_t spare,
                                                 std::size_t limit) = 0;
  // Forgets recorders that were not seen for so long, with their ledgers and positions; at most limit of them. One
  // stays that has a dead letter, a run that a pass would judge, or a position that was used since.
  virtual Result<ForgottenRecorders> forget_recorders(std::chrono::milliseconds unseen_for, std::size_t limit) = 0;
};

struct StoreOptions {
  std::string url;  // sqlite:PATH or a libpq URI
  std::string table_prefix{kDefaultTablePrefix};
  std::chrono::milliseconds connect_timeout{5'000};  // per host
  std::chrono::milliseconds deadline{30'000};        // of one call
  std::size_t copy_rows = 200;                       // PostgreSQL: a batch of so many rows goes by COPY
};

// A connection to a database whose schema fits. kRefused where it does not (see migrate()).
Result<std::unique_ptr<Store>> open_store(const StoreOptions& options);

struct MigrationReport {
  int schema_version = 0;            // after
  std::vector<std::string> applied;  // names of the migrations applied now
  std::string indexes_left;          // that another daemon builds, or that took too long, and who holds them up
};
// Brings the schema up to date under a lock (many daemons may start at once), indexes included, which may take as
// long as the longest transaction; where another daemon is building them they are left to it. With verify_only it
// changes nothing: kNotFound says that migrations, or the index that keeps event ids unique, are missing and
// migrate() would make them, kRefused that the database refuses this daemon.
Result<MigrationReport> migrate(const StoreOptions& options, bool verify_only);
// The same without the indexes of tables that have rows, which IndexBuild makes meanwhile: see Store::indexes().
Result<MigrationReport> migrate_tables(const StoreOptions& options);
// The SQL of all migrations for this url's database, with the prefix put in.
std::string migration_sql(const StoreOptions& options);

}  // namespace run_recorder
