// A runs row as the SQLite adapter's queries bring it. For the adapter's own files.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "database/sqlite.h"
#include "run/run.h"

namespace run_recorder {

enum class RunColumns {
  kAll,
  kToDecide,     // of input, result and error only whether they are there
  kWithoutData,  // without input and result
  kBare,         // without input, result, error, usage and progress
};

// The columns for read_run, in its order, of table alias r. A row that an application wrote may have a history of
// which its last_seq, which is ours, does not know: then that history counts.
inline constexpr std::string_view kRunColumns =
    "r.run_id, r.council, r.status, r.attempt, r.parent_attempt_run_id, r.oban_job_id, r.oban_job_state_at_finalize, "
    "r.started_at, r.finalized_at, r.inserted_at, r.updated_at, r.council_given, r.attempt_given, r.recorder, "
    "r.worker_process, r.sender_process, r.connection, CASE WHEN r.last_seq > 0 THEN r.last_seq ELSE (SELECT "
    "coalesce(max(h.seq), 0) FROM \"{{prefix}}run_events\" h WHERE h.run_id = r.run_id) END, r.last_event_at, "
    "r.stuck_pass, r.queue, r.job_id, r.expires_in";
// Whether the row of run ?1 still has the version ?2 that read_run said.
inline constexpr std::string_view kSameVersion =
    "CASE WHEN last_seq > 0 THEN last_seq ELSE (SELECT coalesce(max(h.seq), 0) FROM \"{{prefix}}run_events\" h "
    "WHERE h.run_id = ?1) END = ?2";
inline constexpr int kRunColumnCount = 23;
std::string run_columns(RunColumns columns);
constexpr int run_column_count(RunColumns columns) {
  switch (columns) {
    case RunColumns::kAll:
    case RunColumns::kToDecide:
      return kRunColumnCount + 5;
    case RunColumns::kWithoutData:
      return kRunColumnCount + 3;
    case RunColumns::kBare:
      return kRunColumnCount;
  }
  return 0;
}

// The run in the first run_column_count(columns) columns. A status that is none of ours reads as queued: whatever
// happens next decides.
Run read_run(const SqliteRows& row, RunColumns columns);

// The ids of the chain of run ?1, at most ?2. Up and down from the given id at once: ids that no row has hold their
// children together too. UNION forgets what it has seen, so that loops end.
inline constexpr std::string_view kChainIds =
    "WITH RECURSIVE member (id) AS (SELECT run_id FROM \"{{prefix}}runs\" WHERE run_id = ?1 "
    "UNION SELECT r.parent_attempt_run_id FROM member JOIN \"{{prefix}}runs\" r ON r.run_id = member.id "
    "WHERE r.parent_attempt_run_id IS NOT NULL "
    "UNION SELECT r.run_id FROM member JOIN \"{{prefix}}runs\" r ON r.parent_attempt_run_id = member.id LIMIT ?2) "
    "SELECT id FROM member";

// A row where the retention has removed run ?1.
inline constexpr std::string_view kIsPruned = "SELECT 1 FROM \"{{prefix}}pruned\" WHERE run_id = ?1";

// What a run weighs on a page.
std::size_t weight_of(const Run& run);

// The SQL for when a run's last event was applied, as 27 characters; '' where nothing says it.
inline constexpr std::string_view kLastEventAt =
    "coalesce(run_recorder_time(coalesce(r.last_event_at, r.updated_at, r.inserted_at)), '')";

}  // namespace run_recorder
