// The state table of contract section 3: one pure function, used for both databases. No I/O, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "run/event.h"
#include "run/json_column.h"
#include "run/status.h"

namespace run_recorder {

// A row of <prefix>runs. Times are UTC.
struct Run {
  std::string run_id;
  std::string council = "unknown";
  Status status = Status::kQueued;
  std::int32_t attempt = 1;
  std::optional<std::string> parent_attempt_run_id;
  std::optional<std::int64_t> oban_job_id;
  std::optional<std::string> oban_job_state_at_finalize;
  JsonColumn input;   // an object's text
  JsonColumn result;  // an object's text
  JsonColumn error;   // an object's text
  std::optional<Timestamp> started_at;
  std::optional<Timestamp> finalized_at;
  std::optional<Timestamp> inserted_at;  // the database's clock; empty until stored
  std::optional<Timestamp> updated_at;

  // The recorder's own columns.
  bool council_given = false;              // an event named the council
  bool attempt_given = false;              // an event stated the attempt
  std::string recorder;                    // the recorder that wrote it last; empty: none did
  std::string worker_process;              // identity text of the latest worker_pid
  std::string sender_process;              // identity text of the latest sender
  std::string connection;                  // the connection of the latest event
  std::int64_t last_seq = 0;               // seq of its last history entry; the row's version
  std::optional<Timestamp> last_event_at;  // when its last event was applied, by the database's clock
  std::string stuck_pass;                  // the pass that marked it last; kept when it is revived
  std::optional<std::string> host;         // where it runs: as an event said, else its recorder's; empty: not started
  std::optional<std::string> queue;        // the configured queue's name; empty: no event named one
  std::optional<std::string> job_id;       // the job's id there; the same as oban_job_id where that is an integer
  std::optional<std::int32_t> expires_in;  // seconds after last_event_at until nobody vouches for it any more
  std::optional<JsonText> usage;           // an object of numbers: the sum by key over its events; at most 4 KiB
  std::optional<JsonText> progress;        // an object: the latest that was told
  std::optional<std::string> unit;         // the systemd unit, the user, the folder and the command that it runs as;
  std::optional<std::string> os_user;      // empty where no event said so
  std::optional<std::string> cwd;
  std::optional<std::string> command;

  // Of a running row only run_id, council, started_at and last_seq were at hand (recorder/open_runs.h): all else that
  // no event said since stays as it is.
  bool bare = false;
};

// What an entry of the history did (column effect).
enum class Effect { kApplied, kRecorded, kConflict, kRevived };
std::string_view to_string(Effect effect);

// An entry of <prefix>run_events to be written.
struct HistoryEntry {
  std::string run_id;
  std::int64_t seq = 0;
  std::string type;
  JsonText payload;
  std::optional<std::string> event_id;
  std::optional<Timestamp> at;
  Timestamp received_at{};
  std::optional<std::uint32_t> peer_uid;
  std::optional<std::int32_t> peer_pid;
  Effect effect = Effect::kRecorded;
  std::string pass_id;  // run_stuck, and run_revived by an undo: the pass
};

// The attributes a change may set; an empty member leaves the row's.
struct RunAttributes {
  std::optional<std::string> run_id;
  std::optional<std::string> council;
  std::optional<Status> status;
  std::optional<std::int64_t> attempt;
  std::optional<std::string> parent_attempt_run_id;
  std::optional<std::int64_t> oban_job_id;
  std::optional<std::string> oban_job_state_at_finalize;
  std::optional<JsonText> input;   // any JSON; wrapped when it is no object
  std::optional<JsonText> result;  // any JSON; wrapped when it is no object
  std::optional<JsonText> error;   // an object
  std::optional<Timestamp> started_at;
  std::optional<Timestamp> finalized_at;
};

// The row after casting and validating attributes, as the Ecto schema's changeset does: run_id and council present
// and within 1…255 bytes, attempt 1…2³¹−1, oban_job_id 1…2⁶³−1, a finished status is never left. kInvalid names the
// field.
Result<Run> changeset(Run row, RunAttributes attributes);

struct Transition {
  Run after;
  bool inserted = false;         // there was no row
  bool fields_changed = false;   // council, attempt, parent, queue, job, input, started_at, where it runs
  bool outcome_changed = false;  // result, error, finalized_at, oban_job_state_at_finalize
  bool reports_changed = false;  // expires_in, usage, progress
  bool finalized = false;        // the row became completed, failed or cancelled by this event
  std::string conflict;          // empty, or in words what contradicts the row
  // The event's own entry, then run_revived where it took the row out of stuck. seq continues after.last_seq.
  std::vector<HistoryEntry> history;
};

// What a terminal event says of its run's outcome, as the row would hold it.
struct Outcome {
  std::optional<JsonText> result;
  std::optional<JsonText> error;
};
Outcome outcome_of(const Event& event);
// Whether the texts that the database has are the same JSON values as an Outcome's. False where either is absent.
struct SameOutcome {
  bool result = false;
  bool error = false;
};
// Whether apply() has to be told how the event's outcome compares with the row's, which was not loaded with it: for a
// terminal event of a run that has one already. Also holds for the row as earlier events of the same batch leave it.
bool needs_comparison(const Run& row, const Event& event);

// Who applies an event: the recorder's id, and its host, on which runs are that are not said to be elsewhere.
struct RecordedBy {
  std::string_view recorder;
  std::string_view host = {};  // empty: not known
};

// Decides what event does to row (nullptr: none). Never fails: whatever contradicts the row is a conflict, kept in
// the history. The caller has already sorted out resends (same run and id). `same` counts where needs_comparison().
Transition apply(const Run* row, Event event, RecordedBy by, SameOutcome same = {});

// {"value": …} around what is no object (Ecto's :map loads only objects).
JsonText as_map(JsonText value);

}  // namespace run_recorder
