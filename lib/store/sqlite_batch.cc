// The transaction of a batch, and the statements that write a row and an entry of the history, in SQLite.
#include <fmt/format.h>

#include <algorithm>

#include "store/columns.h"
#include "store/sqlite_store.h"

namespace run_recorder {

namespace {

// dead_letters and dead_letters_removed are the table's, not the batch's: a letter may have been removed since the
// recorder counted them.
constexpr std::string_view kWriteLedger =
    "UPDATE \"{{prefix}}recorders\" SET applied = ?2, duplicate = ?3, conflicts = ?4, "
    "dead_letters = dead_letters + ?5, last_seen = ?6 WHERE id = ?1";

constexpr std::string_view kReadPosition =
    "SELECT applied FROM \"{{prefix}}positions\" WHERE recorder = ?1 AND incarnation = ?2";
const std::string& write_position_sql() {
  static const std::string sql =
      std::string(kInsertPosition) +
      " ON CONFLICT (recorder, incarnation) DO UPDATE SET applied = excluded.applied, updated_at = excluded.updated_at";
  return sql;
}

const std::string& beat_sql() {
  static const std::string sql = fmt::format(
      "UPDATE \"{{{{prefix}}}}runs\" SET updated_at = ?2, last_event_at = ?2, sender_process = ?3, connection = ?4, "
      "worker_process = coalesce(?5, worker_process), expires_in = coalesce(?6, expires_in) "
      "WHERE run_id = ?1 AND status = '{}' AND recorder = ?7",
      to_string(Status::kRunning));
  return sql;
}

constexpr std::string_view kDeleteDeadLetter =
    "DELETE FROM \"{{prefix}}dead_letters\" WHERE id = ?1 AND recorder = ?2";
constexpr std::string_view kKnownEvent = "SELECT 1 FROM \"{{prefix}}run_events\" WHERE run_id = ?1 AND event_id = ?2";

}  // namespace

Result<std::vector<std::pair<std::string, std::string>>> SqliteStore::known_events(
    std::span<const std::pair<std::string, std::string>> ids) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kRead);
  if (!transaction) return transaction.error();
  std::vector<std::pair<std::string, std::string>> known;
  for (const auto& id : ids) {
    const auto found = finds(kKnownEvent, id.first, id.second);
    if (!found) return found.error();
    if (*found) known.push_back(id);
  }
  return known;
}

Result<Committed> SqliteStore::commit(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how) {
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  auto written = write_batch(self, batch, clock_(), how.pieces);
  if (!written || *written != Committed::kYes) return written;
  if (auto done = transaction->commit(); !done) return done.error();
  return Committed::kYes;
}

Result<Committed> SqliteStore::rehearse(const RecorderSelf& self, std::span<const BatchWrite> batches) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  for (const BatchWrite& batch : batches) {
    auto written = write_batch(self, batch, clock_());
    if (!written || *written != Committed::kYes) return written;
  }
  return Committed::kYes;
}

// Inside of the caller's transaction, which is rolled back on anything but kYes.
Result<Committed> SqliteStore::write_batch(const RecorderSelf& self, const BatchWrite& batch, Timestamp now,
                                           const WritePieces* pieces) {
  std::size_t rows = 0;
  const auto rest = [&] {
    if (pieces && ++rows % pieces->rows == 0) pieces->rest();
  };
  if (!batch.incarnation.empty()) {
    const auto placed = at_position(self, batch);
    if (!placed) return placed.error();
    if (!*placed) return Committed::kMisplaced;
    const auto moved = write(write_position_sql(), self.positions_of(), batch.incarnation, batch.to, now);
    if (!moved) return moved.error();
  }
  for (const RunChange& change : batch.runs) {
    const auto as_expected = write_run(change, now);
    if (!as_expected) return as_expected.error();
    if (!*as_expected) return Committed::kRaced;
    rest();
  }
  for (const BeatWrite& beat : batch.beats) {
    const auto renewed = write(beat_sql(), beat.run_id, now, beat.sender_process, beat.connection,
                               beat.worker_process, beat.expires_in, self.id);
    if (!renewed) return renewed.error();
    if (*renewed != 1) return Committed::kRaced;
  }
  for (const HistoryEntry& entry : batch.history) {
    const auto as_expected = write_history(entry, self.id, now);
    if (!as_expected) return as_expected.error();
    if (!*as_expected) return raced_or_data(entry, batch);
    rest();
  }
  const auto as_expected = write_dead_letters(self, batch, now);
  if (!as_expected) return as_expected.error();
  if (!*as_expected) return Committed::kRaced;

  const auto held = touch_recorder(self, now);
  if (!held) return held.error();
  if (!*held) return Committed::kMisplaced;
  const auto letters =
      static_cast<std::int64_t>(batch.dead_letters.size()) - static_cast<std::int64_t>(batch.retried.size());
  const auto counted = write(kWriteLedger, self.id, batch.ledger.applied, batch.ledger.duplicate,
                             batch.ledger.conflicts, letters, now);
  if (!counted) return counted.error();
  return Committed::kYes;
}

Result<bool> SqliteStore::at_position(const RecorderSelf& self, const BatchWrite& batch) {
  std::uint64_t position = 0;
  const auto on_row = [&position](const SqliteRows& row) {
    position = static_cast<std::uint64_t>(row.integer(0));
    return false;
  };
  if (auto done = read(kReadPosition, on_row, self.positions_of(), batch.incarnation); !done) return done.error();
  return position == batch.from;
}

Result<bool> SqliteStore::write_run(const RunChange& change, Timestamp now) {
  if (!change.insert) return update_run(change, now);
  // Not as a part of the INSERT: from a SELECT it could write several rows, and SQLite would copy each page that it
  // changes into a temporary file first.
  const auto pruned = finds(kIsPruned, change.after.run_id);
  if (!pruned) return pruned.error();
  if (*pruned) return false;
  return insert_run(change.after, now, false);
}

Result<bool> SqliteStore::insert_run(const Run& run, Timestamp now, bool moved) {
  const std::string now_text = format_rfc3339(now);
  // What a moved row has for the clock's times is kept; the contract's must be there.
  const auto by_clock = [&](const RunColumn& column) {
    return column.clock() && (!moved || (column.owner == ColumnOwner::kContract && !has_value(column, run)));
  };
  return write_one(insert_run_sql_, [&](const auto& bind) {
    for (const RunColumn& column : run_columns()) {
      by_clock(column) ? bind(now_text) : visit_value(column, run, PutParameter{bind});
    }
  });
}

Result<bool> SqliteStore::update_run(const RunChange& change, Timestamp now) {
  const Run& run = change.after;
  const std::string now_text = format_rfc3339(now);
  const std::string& sql = update_sql_[change.fields_changed][change.outcome_changed][change.reports_changed];
  return write_one(sql, [&](const auto& bind) {
    bind(run.run_id);
    bind(change.expected_last_seq);
    for (const RunColumn& column : run_columns()) {
      if (!writes(change, column.group)) continue;
      const bool keeps = run.bare && column.name == "worker_process";
      column.clock() ? bind(now_text) : visit_value(column, run, PutParameter{bind, keeps, true});
    }
    bind(run.bare);
  });
}

Result<bool> SqliteStore::write_history(const HistoryEntry& entry, std::string_view recorder, Timestamp now) {
  return write_one(insert_event_sql_, [&](const auto& bind) {
    for (const HistoryColumn& column : history_columns()) {
      if (column.clock()) bind(now);
      if (column.group == ColumnGroup::kRecorder) bind(recorder);
      if (column.group == ColumnGroup::kAlways) visit_value(column, entry, PutParameter{bind, column.nullable});
    }
  });
}

// An entry's key was taken. Where its row was as expected, only an id that nobody looked up is a race: rows and
// history move together, so that any other key in the way would be there for ever.
Result<Committed> SqliteStore::raced_or_data(const HistoryEntry& entry, const BatchWrite& batch) {
  Result<bool> known = false;
  if (entry.event_id) known = finds(kKnownEvent, entry.run_id, *entry.event_id);
  if (!known) return known.error();
  const bool with_row = std::any_of(batch.runs.begin(), batch.runs.end(), [&entry](const RunChange& change) {
    return change.after.run_id == entry.run_id;
  });
  if (*known || !with_row) return Committed::kRaced;
  return Error{ErrorKind::kData, fmt::format("the history of run {} already has an entry {}, unknown to its row",
                                             entry.run_id, entry.seq)};
}

Result<void> SqliteStore::insert_letter(const DeadLetter& letter, std::string_view recorder, Timestamp inserted_at) {
  static const std::string sql = fmt::format("INSERT INTO \"{{{{prefix}}}}dead_letters\" ({}) VALUES ({})",
                                             kLetterColumns, parameters_for(kLetterColumns));
  const auto inserted =
      write(sql, recorder, letter.run_id, letter.type, letter.event_id, SqliteBlob{letter.record}, letter.line,
            letter.sqlstate, letter.reason, letter.tries, letter.received_at, inserted_at);
  if (!inserted) return inserted.error();
  return {};
}

// False: a letter that this batch takes out is no longer there.
Result<bool> SqliteStore::write_dead_letters(const RecorderSelf& self, const BatchWrite& batch, Timestamp now) {
  for (const DeadLetter& letter : batch.dead_letters) {
    if (auto inserted = insert_letter(letter, self.id, now); !inserted) return inserted.error();
  }
  for (const std::int64_t id : batch.retried) {
    const auto deleted = write(kDeleteDeadLetter, id, self.id);
    if (!deleted) return deleted.error();
    if (*deleted != 1) return false;
  }
  return true;
}

}  // namespace run_recorder
