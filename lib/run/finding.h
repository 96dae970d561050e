// The transitions that no event asks for: a pass of the reconciliation finds a run stuck, and undoing that pass
// returns it. With apply() (run/run.h) they are the state table of contract section 3. A statement writes one of them
// into a page of rows at once, so what it writes is said here for all of them. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "run/run.h"

namespace run_recorder {

// The types of the history's entries that only the daemon makes.
inline constexpr std::string_view kStuckEvent = "run_stuck";
inline constexpr std::string_view kRevivedEvent = "run_revived";

// What becomes of a column.
enum class Write {
  kKeep,
  kClear,
  kNow,   // the database's clock at the writing
  kGiven  // what each row brings
};

struct BulkTransition {
  Status status;  // which the row gets
  Write outcome;  // of error and oban_job_state_at_finalize
  Write finalized_at;
  Write last_event_at;
  std::int64_t seq_step;  // last_seq rises by this, and is then the seq of the row's history entry
  std::string_view type;  // of that entry
  Effect effect;
};

// Found stuck: the error is what each row brings, and the entry's payload. Of active rows only.
BulkTransition stuck_transition();

// Returned by an undo to `status`, which the row had when it was found: queued or running.
struct UndoTransition : BulkTransition {
  JsonText payload;  // of the entry
};
UndoTransition undo_transition(Status status, std::string_view pass_id);

// The error object of a run that is stuck. evidence: an object; of a pass its member "status" is the status that an
// undo returns the row to.
struct StuckFinding {
  std::string_view reason;
  std::string_view message;
  std::optional<std::string_view> pass_id = {};  // empty: a sender reported it
  std::string_view evidence = "{}";
};
JsonText stuck_error(const StuckFinding& finding);

// The payload of run_revived. by: the event's type, or "undo".
JsonText revived_payload(Status to, std::string_view by, std::optional<std::string_view> pass_id);

}  // namespace run_recorder
