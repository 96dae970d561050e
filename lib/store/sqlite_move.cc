// Rows from another database into SQLite.
#include "store/sqlite_store.h"

namespace run_recorder {

namespace {

constexpr std::string_view kInsertWhole =
    "INSERT INTO \"{{prefix}}runs\" (run_id, council, status, attempt, parent_attempt_run_id, oban_job_id, "
    "oban_job_state_at_finalize, input, result, error, started_at, finalized_at, inserted_at, updated_at, "
    "council_given, attempt_given, recorder, worker_process, sender_process, connection, last_seq, last_event_at, "
    "stuck_pass) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, "
    "?21, ?22, ?23) ON CONFLICT (run_id) DO NOTHING";
constexpr std::string_view kForgetOne = "DELETE FROM \"{{prefix}}pruned\" WHERE run_id = ?1";

}  // namespace

Result<bool> SqliteStore::insert_whole(const Run& run, std::span<const StoredEvent> history) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  const auto inserted =
      write(kInsertWhole, run.run_id, run.council, to_string(run.status), run.attempt, run.parent_attempt_run_id,
            run.oban_job_id, run.oban_job_state_at_finalize, run.input.text(), run.result.text(), run.error.text(),
            run.started_at, run.finalized_at, run.inserted_at.value_or(now), run.updated_at.value_or(now),
            run.council_given, run.attempt_given, run.recorder, run.worker_process, run.sender_process,
            run.connection, run.last_seq, run.last_event_at, run.stuck_pass);
  if (!inserted) return inserted.error();
  if (*inserted != 1) return false;
  for (const StoredEvent& event : history) {
    const auto written = write_history(event.entry, event.recorder, event.inserted_at.value_or(now));
    if (!written) return written.error();
    if (!*written) {
      return Error{ErrorKind::kData,
                   "the history of run " + run.run_id + " has such an entry already, without a row"};
    }
  }
  if (auto done = write(kForgetOne, run.run_id); !done) return done.error();
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

}  // namespace run_recorder
