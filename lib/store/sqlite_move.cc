// Rows out of SQLite and from another database into it.
#include <fmt/format.h>

#include "store/moving.h"
#include "store/paging.h"
#include "store/sqlite_store.h"

namespace run_recorder {

namespace {

constexpr std::string_view kForgetOne = "DELETE FROM \"{{prefix}}pruned\" WHERE run_id = ?1";
constexpr std::string_view kHasRow = "SELECT 1 FROM \"{{prefix}}runs\" WHERE run_id = ?1";
constexpr std::string_view kHasHistory = "SELECT 1 FROM \"{{prefix}}run_events\" WHERE run_id = ?1";
constexpr std::string_view kHistoryEnds =
    "SELECT count(*), coalesce(max(seq), 0) FROM \"{{prefix}}run_events\" WHERE run_id = ?1";
constexpr std::string_view kRemoveHistory =
    "DELETE FROM \"{{prefix}}run_events\" WHERE run_id = ?1 AND NOT EXISTS "
    "(SELECT 1 FROM \"{{prefix}}runs\" WHERE run_id = ?1)";

constexpr std::string_view kListPruned =
    "SELECT run_id, pruned_at FROM \"{{prefix}}pruned\" WHERE run_id > ?1 ORDER BY run_id LIMIT ?2";
constexpr std::string_view kInsertPruned =
    "INSERT INTO \"{{prefix}}pruned\" (run_id, pruned_at) SELECT ?1, ?2 WHERE NOT EXISTS "
    "(SELECT 1 FROM \"{{prefix}}runs\" WHERE run_id = ?1) ON CONFLICT (run_id) DO NOTHING";

constexpr std::string_view kInsertReconciliation =
    "INSERT INTO \"{{prefix}}reconciliations\" (pass_id, recorder, \"trigger\", started_at, finished_at, report) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (pass_id) DO NOTHING";

constexpr std::string_view kHasDeadLetter =
    "SELECT 1 FROM \"{{prefix}}dead_letters\" WHERE run_id = ?1 AND recorder = ?2 AND inserted_at = ?3 AND record = "
    "?4";
constexpr std::string_view kCountDeadLetters = "SELECT count(*) FROM \"{{prefix}}dead_letters\" WHERE recorder = ?1";

constexpr std::string_view kHasRecorder = "SELECT 1 FROM \"{{prefix}}recorders\" WHERE id = ?1";

}  // namespace

Result<WholePage> SqliteStore::whole_runs(std::size_t limit, std::string_view cursor) {
  static const std::string sql = fmt::format(
      "SELECT {}, r.inserted_at FROM \"{{{{prefix}}}}runs\" r WHERE (r.inserted_at, r.run_id) > (?1, ?2) "
      "ORDER BY r.inserted_at, r.run_id LIMIT ?3",
      run_list(RunParts::kAll));
  const auto after = cursor.empty() ? PagePlace() : decode_cursor(cursor);
  if (!after) return invalid_cursor(cursor);
  if (auto begun = begin_call(); !begun) return begun.error();
  WholePage page;
  std::size_t bytes = 0;
  const auto on_row = [&](const SqliteRows& row) {
    if (!page.runs.empty() && (page.runs.size() >= limit || bytes > kPageBytes)) {
      page.next = page.runs.back().place;
      return false;
    }
    WholeRun& whole = page.runs.emplace_back();
    SqliteFields fields(row);
    whole.run = read_run(fields, RunParts::kAll);
    whole.place = encode_cursor({fields.text(), whole.run.run_id});
    bytes += weight_of(whole.run);
    return true;
  };
  if (auto done = read(sql, on_row, after->time, after->id, limit + 1); !done) return done.error();
  return page;
}

Result<PrunedPage> SqliteStore::list_pruned(std::size_t limit, std::string_view cursor) {
  const auto after = decode_id_cursor(cursor);
  if (!after) return invalid_cursor(cursor);
  if (auto begun = begin_call(); !begun) return begun.error();
  PrunedPage page;
  const auto on_row = [&](const SqliteRows& row) {
    page.runs.push_back({std::string(row.text(0)), row.time(1).value_or(Timestamp{})});
    return true;
  };
  if (auto done = read(kListPruned, on_row, *after, limit); !done) return done.error();
  if (page.runs.size() == limit) page.next = encode_id_cursor(page.runs.back().run_id);
  return page;
}

Result<std::vector<RecorderRow>> SqliteStore::list_recorders(std::string_view after, std::size_t limit) {
  static const std::string sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}recorders\" WHERE id > ?1 ORDER BY id LIMIT ?2", kRecorderColumns);
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kRead);
  if (!transaction) return transaction.error();
  std::vector<RecorderRow> recorders;
  const auto on_row = [&](const SqliteRows& row) {
    SqliteFields fields(row);
    recorders.push_back(read_recorder(fields));
    return true;
  };
  if (auto done = read(sql, on_row, after, limit); !done) return done.error();
  for (RecorderRow& recorder : recorders) {
    if (auto done = read_positions(recorder.self.id, recorder.checkpoint); !done) return done.error();
  }
  return recorders;
}

Result<bool> SqliteStore::write_whole(const Run& run, Timestamp now) {
  const auto inserted = insert_run(run, now, true);
  if (!inserted || !*inserted) return inserted;
  if (auto done = write(kForgetOne, run.run_id); !done) return done.error();
  return true;
}

Result<std::vector<bool>> SqliteStore::insert_whole(std::span<const MovedRun> runs) {
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  std::vector<bool> added;
  for (const MovedRun& moved : runs) {
    const auto written = write_with_history(moved, now);
    if (!written) return written.error();
    added.push_back(*written);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return added;
}

// Inside of the caller's transaction, which is rolled back where this fails. False: it is there, or a part of it.
Result<bool> SqliteStore::write_with_history(const MovedRun& moved, Timestamp now) {
  const auto begun_before = finds(kHasHistory, moved.run.run_id);
  if (!begun_before) return begun_before.error();
  if (*begun_before) return false;
  const auto inserted = write_whole(moved.run, now);
  if (!inserted || !*inserted) return inserted;
  for (const StoredEvent& event : moved.history) {
    const auto written = write_history(event.entry, event.recorder, event.inserted_at.value_or(now));
    if (!written) return written.error();
    if (!*written) return Error{ErrorKind::kData, "duplicate event id in its history"};
  }
  return true;
}

Result<void> SqliteStore::insert_history(std::string_view run_id, std::span<const StoredEvent> part) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const auto row = finds(kHasRow, run_id);
  if (!row) return row.error();
  if (*row) return Error{ErrorKind::kConflict, "the run exists already"};
  const Timestamp now = clock_();
  for (const StoredEvent& event : part) {
    const auto written = write_history(event.entry, event.recorder, event.inserted_at.value_or(now));
    if (!written) return written.error();
    if (!*written) return Error{ErrorKind::kData, "duplicate seq or event id in its history"};
  }
  return transaction->commit();
}

Result<bool> SqliteStore::insert_row(const Run& run) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  std::int64_t count = 0;
  std::int64_t last = 0;
  const auto on_row = [&](const SqliteRows& row) {
    count = row.integer(0);
    last = row.integer(1);
    return true;
  };
  const auto there = finds(kHasRow, run.run_id);
  if (!there) return there.error();
  if (*there) return false;
  if (auto done = read(kHistoryEnds, on_row, run.run_id); !done) return done.error();
  if (count != run.last_seq || last != run.last_seq) return incomplete_history(run.last_seq, count, last);
  const auto inserted = write_whole(run, clock_());
  if (!inserted || !*inserted) return inserted;
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

Result<void> SqliteStore::remove_history(std::string_view run_id) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto removed = write(kRemoveHistory, run_id);
  if (!removed) return removed.error();
  return {};
}

Result<std::uint64_t> SqliteStore::insert_pruned(std::span<const PrunedRun> runs) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  std::uint64_t added = 0;
  for (const PrunedRun& run : runs) {
    const auto inserted = write(kInsertPruned, run.run_id, run.pruned_at);
    if (!inserted) return inserted.error();
    added += static_cast<std::uint64_t>(*inserted);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return added;
}

Result<bool> SqliteStore::insert_reconciliation(const ReconciliationRow& row) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto inserted = write(kInsertReconciliation, row.pass_id, row.recorder, row.trigger, row.started_at,
                              row.finished_at, row.report);
  if (!inserted) return inserted.error();
  return *inserted == 1;
}

Result<bool> SqliteStore::insert_dead_letter(const DeadLetter& letter) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp inserted_at = letter.inserted_at.value_or(clock_());
  const auto there = finds(kHasDeadLetter, letter.run_id, letter.recorder, inserted_at, SqliteBlob{letter.record});
  if (!there) return there.error();
  if (*there) return false;
  const auto known = finds(kHasRecorder, letter.recorder);
  if (!known) return known.error();
  if (*known) return recorder_known(letter.recorder);
  if (auto inserted = insert_letter(letter, letter.recorder, inserted_at); !inserted) return inserted.error();
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

Result<bool> SqliteStore::insert_recorder(const RecorderRow& row) {
  static const std::string sql = fmt::format("INSERT INTO \"{{{{prefix}}}}recorders\" ({}) VALUES ({})",
                                             kRecorderColumns, parameters_for(kRecorderColumns));
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const auto known = finds(kHasRecorder, row.self.id);
  if (!known) return known.error();
  if (*known) return false;
  const Ledger& ledger = row.checkpoint.ledger;
  std::uint64_t letters = 0;
  const auto on_row = [&letters](const SqliteRows& found) {
    letters = static_cast<std::uint64_t>(found.integer(0));
    return true;
  };
  if (auto done = read(kCountDeadLetters, on_row, row.self.id); !done) return done.error();
  if (letters != ledger.dead_letters) return letters_missing(ledger.dead_letters, letters);
  const auto inserted =
      write(sql, row.self.id, row.self.host, row.self.version, row.self.incarnation, row.first_seen, row.last_seen,
            ledger.applied, ledger.duplicate, ledger.dead_letters, ledger.dead_letters_removed, ledger.conflicts);
  if (!inserted) return inserted.error();
  for (const auto& [incarnation, applied] : row.checkpoint.applied) {
    const auto placed = write(kInsertPosition, row.self.id, incarnation, applied, clock_());
    if (!placed) return placed.error();
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

}  // namespace run_recorder
