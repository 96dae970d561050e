// The recorder's side of the SQLite adapter: checking in, loading, and the one transaction of a batch.
#include "store/sqlite_store.h"

#include <fmt/core.h>

#include <algorithm>

#include "store/migrations.h"
#include "store/sqlite_migrate.h"
#include "store/transition_sql.h"

namespace run_recorder {

namespace {

constexpr std::string_view kTouchRecorder =
    "INSERT INTO \"{{prefix}}recorders\" AS recorders (id, host, version, incarnation, first_seen, last_seen) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?5) "
    "ON CONFLICT (id) DO UPDATE SET host = excluded.host, version = excluded.version, "
    "incarnation = excluded.incarnation, last_seen = excluded.last_seen "
    "WHERE recorders.incarnation IN ('', excluded.incarnation)";

constexpr std::string_view kReadHolder =
    "SELECT incarnation, host, last_seen FROM \"{{prefix}}recorders\" WHERE id = ?1";
constexpr std::string_view kTakeOver =
    "UPDATE \"{{prefix}}recorders\" SET incarnation = ?1, last_seen = ?2 WHERE id = ?3 AND incarnation = ?4";

constexpr std::string_view kReadLedger =
    "SELECT applied, duplicate, dead_letters, dead_letters_removed, conflicts FROM \"{{prefix}}recorders\" "
    "WHERE id = ?1";

// dead_letters and dead_letters_removed are the table's, not the batch's: a letter may have been removed since the
// recorder counted them.
constexpr std::string_view kWriteLedger =
    "UPDATE \"{{prefix}}recorders\" SET applied = ?2, duplicate = ?3, conflicts = ?4, "
    "dead_letters = dead_letters + ?5, last_seen = ?6 WHERE id = ?1";

constexpr std::string_view kReadPositions =
    "SELECT incarnation, applied FROM \"{{prefix}}positions\" WHERE recorder = ?1";
constexpr std::string_view kReadPosition =
    "SELECT applied FROM \"{{prefix}}positions\" WHERE recorder = ?1 AND incarnation = ?2";
constexpr std::string_view kWritePosition =
    "INSERT INTO \"{{prefix}}positions\" (recorder, incarnation, applied, updated_at) VALUES (?1, ?2, ?3, ?4) "
    "ON CONFLICT (recorder, incarnation) DO UPDATE SET applied = excluded.applied, updated_at = excluded.updated_at";

// Only our own keys' conflicts are races; any other constraint is the database refusing the data.
constexpr std::string_view kInsertRun =
    "INSERT INTO \"{{prefix}}runs\" ({{run columns}}run_id, council, status, attempt, parent_attempt_run_id, "
    "oban_job_id, "
    "oban_job_state_at_finalize, input, result, error, started_at, finalized_at, inserted_at, updated_at, "
    "council_given, attempt_given, recorder, worker_process, sender_process, connection, last_seq, last_event_at, "
    "stuck_pass, queue, job_id, expires_in, usage, progress) VALUES ({{run values}}?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
    "?9, ?10, ?11, "
    "?12, ?13, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?13, ?21, ?22, ?23, ?24, ?25, ?26) ON CONFLICT (run_id) DO "
    "NOTHING";

constexpr std::string_view kInsertEvent =
    "INSERT INTO \"{{prefix}}run_events\" ({{event columns}}run_id, seq, type, payload, inserted_at, event_id, at, "
    "received_at, "
    "recorder, "
    "peer_uid, peer_pid, effect, pass_id) VALUES ({{event values}}?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
    "?13) "
    "ON CONFLICT (run_id, seq) DO NOTHING ON CONFLICT (run_id, event_id) WHERE event_id IS NOT NULL DO NOTHING";

constexpr std::string_view kBeat =
    "UPDATE \"{{prefix}}runs\" SET updated_at = ?2, last_event_at = ?2, sender_process = ?3, connection = ?4, "
    "worker_process = coalesce(?5, worker_process), expires_in = coalesce(?6, expires_in) "
    "WHERE run_id = ?1 AND status = 'running' AND recorder = ?7";

constexpr std::string_view kInsertDeadLetter =
    "INSERT INTO \"{{prefix}}dead_letters\" (recorder, run_id, type, event_id, record, line, sqlstate, reason, "
    "tries, "
    "received_at, inserted_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
constexpr std::string_view kDeleteDeadLetter =
    "DELETE FROM \"{{prefix}}dead_letters\" WHERE id = ?1 AND recorder = ?2";

constexpr std::string_view kReadOutcome = "SELECT result, error FROM \"{{prefix}}runs\" WHERE run_id = ?1";

constexpr std::string_view kKnownEvent = "SELECT 1 FROM \"{{prefix}}run_events\" WHERE run_id = ?1 AND event_id = ?2";

// What of the JSON was not loaded stays as it is. The guards: the version the decision was made from, and that
// nothing leaves a finished status.
std::string update_run_sql(bool fields, bool outcome, bool reports) {
  std::string sql =
      "UPDATE \"{{prefix}}runs\" SET status = ?3, updated_at = ?4, last_event_at = ?4, council_given = ?5, "
      "attempt_given = ?6, recorder = ?7, worker_process = ?8, sender_process = ?9, connection = ?10, last_seq = ?11";
  if (fields) {
    sql +=
        ", council = ?12, attempt = ?13, parent_attempt_run_id = ?14, oban_job_id = ?15, queue = ?16, job_id = ?17, "
        "started_at = ?18, input = CASE WHEN ?19 THEN ?20 ELSE input END";
  }
  if (outcome) {
    sql +=
        ", oban_job_state_at_finalize = ?21, finalized_at = ?22, result = CASE WHEN ?23 THEN ?24 ELSE result END, "
        "error = CASE WHEN ?25 THEN ?26 ELSE error END, stuck_pass = ?27";
  }
  if (reports) sql += ", expires_in = ?28, usage = ?29, progress = ?30";
  sql.append(" WHERE run_id = ?1 AND ").append(kSameVersion);
  return sql += fmt::format(" AND (status NOT IN ({}) OR status = ?3)", sql_list(finished_statuses()));
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const auto found = text.find(from); found != std::string::npos) text.replace(found, from.size(), to);
}

// An INSERT of runs has {{run columns}} and {{run values}} before its own, one of the history {{event columns}} and
// {{event values}}; its ?5 is the entry's inserted_at.
std::string with_fill(std::string sql, const SqliteFill& fill) {
  if (!sql.starts_with("INSERT")) return sql;
  replace(sql, "{{run columns}}", fill.runs.columns);
  replace(sql, "{{run values}}", fill.runs.values);
  replace(sql, "{{event columns}}", fill.run_events.columns);
  replace(sql, "{{event values}}", fill.run_events.values);
  replace(sql, "{{now}}", "?5");
  return sql;
}

std::optional<std::string_view> text_of(const JsonColumn& json) {
  if (!json.loaded()) return std::nullopt;
  return json.text();
}

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options, WallClock clock) {
  auto connection = open_sqlite_with_schema(options);
  if (!connection) return connection.error();
  auto fill = columns_to_fill(**connection, options.table_prefix);
  if (!fill) return fill.error();
  return std::unique_ptr<Store>(std::make_unique<SqliteStore>(std::move(*connection), options.table_prefix,
                                                              std::move(*fill), std::move(clock)));
}

SqliteStore::SqliteStore(std::unique_ptr<SqliteConnection> connection, std::string_view table_prefix, SqliteFill fill,
                         WallClock clock)
    : connection_(std::move(connection)),
      table_prefix_(table_prefix),
      fill_(std::move(fill)),
      clock_(std::move(clock)) {
  for (const bool fields : {false, true}) {
    for (const bool outcome : {false, true}) {
      for (const bool reports : {false, true}) {
        update_sql_[fields][outcome][reports] = update_run_sql(fields, outcome, reports);
      }
    }
  }
}

Result<void> SqliteStore::begin_call() {
  connection_->begin_call();
  return connection_->check_file();
}

Result<SqliteStatement*> SqliteStore::statement(std::string_view sql) {
  if (const auto found = statements_.find(sql); found != statements_.end()) return &found->second;
  auto prepared = connection_->prepare(with_fill(with_prefix(sql, table_prefix_), fill_));
  if (!prepared) return prepared.error();
  return &statements_.emplace(sql, std::move(*prepared)).first->second;
}

// ---- the recorder

Result<bool> SqliteStore::touch_recorder(const RecorderSelf& self, Timestamp now) {
  const auto touched = write(kTouchRecorder, self.id, self.host, self.version, self.incarnation, now);
  if (!touched) return touched.error();
  return *touched > 0;
}

Result<std::optional<Holder>> SqliteStore::holder_of(const std::string& id, Timestamp now) {
  std::optional<Holder> holder;
  const auto on_row = [&](const SqliteRows& row) {
    holder = Holder{std::string(row.text(0)), std::string(row.text(1)), std::string(row.text(2)), {}};
    if (const auto seen = parse_rfc3339(holder->last_seen); seen) {
      holder->seen_ago = std::chrono::duration_cast<std::chrono::milliseconds>(now - *seen);
    }
    return false;
  };
  if (auto done = read(kReadHolder, on_row, id); !done) return done.error();
  return holder;
}

Result<bool> SqliteStore::take_over(const RecorderSelf& self, std::string_view from) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto taken = write(kTakeOver, self.incarnation, clock_(), self.id, from);
  if (!taken) return taken.error();
  return *taken > 0;
}

Result<Checkpoint> SqliteStore::check_in(const RecorderSelf& self) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  Checkpoint checkpoint;
  const Timestamp now = clock_();
  if (auto holder = holder_of(self.id, now); !holder) {
    return holder.error();
  } else if (*holder && !(*holder)->incarnation.empty() && (*holder)->incarnation != self.incarnation) {
    checkpoint.holder = std::move(*holder);
    return checkpoint;
  }
  const auto on_ledger = [&checkpoint](const SqliteRows& row) {
    const auto number = [&row](int column) { return static_cast<std::uint64_t>(row.integer(column)); };
    checkpoint.known = true;
    checkpoint.ledger = {.applied = number(0),
                         .duplicate = number(1),
                         .dead_letters = number(2),
                         .dead_letters_removed = number(3),
                         .conflicts = number(4)};
    return false;
  };
  if (auto done = read(kReadLedger, on_ledger, self.id); !done) return done.error();
  const auto on_position = [&checkpoint](const SqliteRows& row) {
    checkpoint.applied.emplace(row.text(0), static_cast<std::uint64_t>(row.integer(1)));
    return true;
  };
  if (auto done = read(kReadPositions, on_position, self.positions_of()); !done) return done.error();
  if (auto done = touch_recorder(self, now); !done) return done.error();
  if (auto done = transaction->commit(); !done) return done.error();
  return checkpoint;
}

Result<std::vector<Run>> SqliteStore::load(std::span<const std::string> run_ids) {
  static const std::string sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}runs\" r WHERE r.run_id = ?1", run_list(RunParts::kToDecide));
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kRead);
  if (!transaction) return transaction.error();
  std::vector<Run> runs;
  runs.reserve(run_ids.size());
  const auto on_row = [&runs](const SqliteRows& row) {
    SqliteFields fields(row);
    runs.push_back(read_run(fields, RunParts::kToDecide));
    return false;
  };
  for (const std::string& run_id : run_ids) {
    if (auto done = read(sql, on_row, run_id); !done) return done.error();
  }
  return runs;
}

// Each has the whole deadline for itself, because a row may be large; one at a time is in memory.
Result<std::vector<SameOutcome>> SqliteStore::compare_outcomes(std::span<const SaidOutcome> said) {
  std::vector<SameOutcome> same;
  same.reserve(said.size());
  for (const SaidOutcome& one : said) {
    if (auto begun = begin_call(); !begun) return begun.error();
    SameOutcome outcome;
    const auto equal = [](const SqliteRows& row, int column, const std::optional<JsonText>& text) {
      return text && !row.is_null(column) && json_equal(row.text(column), *text);
    };
    const auto on_row = [&](const SqliteRows& row) {
      outcome = {.result = equal(row, 0, one.said.result), .error = equal(row, 1, one.said.error)};
      return false;
    };
    if (auto done = read(kReadOutcome, on_row, one.run_id); !done) return done.error();
    same.push_back(outcome);
  }
  return same;
}

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

// ---- a batch

Result<Committed> SqliteStore::commit(const RecorderSelf& self, const BatchWrite& batch) {
  if (auto begun = begin_call(); !begun) return begun.error();
  connection_->use_large_cache();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  auto written = write_batch(self, batch, clock_());
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
Result<Committed> SqliteStore::write_batch(const RecorderSelf& self, const BatchWrite& batch, Timestamp now) {
  if (!batch.incarnation.empty()) {
    const auto placed = at_position(self, batch);
    if (!placed) return placed.error();
    if (!*placed) return Committed::kMisplaced;
    const auto moved = write(kWritePosition, self.positions_of(), batch.incarnation, batch.to, now);
    if (!moved) return moved.error();
  }
  for (const RunChange& change : batch.runs) {
    const auto as_expected = write_run(change, now);
    if (!as_expected) return as_expected.error();
    if (!*as_expected) return Committed::kRaced;
  }
  for (const BeatWrite& beat : batch.beats) {
    const auto renewed = write(kBeat, beat.run_id, now, beat.sender_process, beat.connection, beat.worker_process,
                               beat.expires_in, self.id);
    if (!renewed) return renewed.error();
    if (*renewed != 1) return Committed::kRaced;
  }
  for (const HistoryEntry& entry : batch.history) {
    const auto as_expected = write_history(entry, self.id, now);
    if (!as_expected) return as_expected.error();
    if (!*as_expected) return raced_or_data(entry, batch);
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
  return change.insert ? insert_run(change.after, now) : update_run(change, now);
}

Result<bool> SqliteStore::insert_run(const Run& run, Timestamp now) {
  // Not as a part of the INSERT: from a SELECT it could write several rows, and SQLite would copy each page that it
  // changes into a temporary file first.
  const auto pruned = finds(kIsPruned, run.run_id);
  if (!pruned) return pruned.error();
  if (*pruned) return false;
  const auto inserted =
      write(kInsertRun, run.run_id, run.council, to_string(run.status), run.attempt, run.parent_attempt_run_id,
            run.oban_job_id, run.oban_job_state_at_finalize, run.input.text(), run.result.text(), run.error.text(),
            run.started_at, run.finalized_at, now, run.council_given, run.attempt_given, run.recorder,
            run.worker_process, run.sender_process, run.connection, run.last_seq, run.stuck_pass, run.queue,
            run.job_id, run.expires_in, run.usage, run.progress);
  if (!inserted) return inserted.error();
  return *inserted == 1;
}

Result<bool> SqliteStore::update_run(const RunChange& change, Timestamp now) {
  const Run& run = change.after;
  const std::string& sql = update_sql_[change.fields_changed][change.outcome_changed][change.reports_changed];
  const auto run_update = [&](const auto&... more) {
    return write(sql, run.run_id, change.expected_last_seq, to_string(run.status), now, run.council_given,
                 run.attempt_given, run.recorder, run.worker_process, run.sender_process, run.connection,
                 run.last_seq, more...);
  };
  const auto with_fields = [&](const auto&... more) {
    return run_update(run.council, run.attempt, run.parent_attempt_run_id, run.oban_job_id, run.queue, run.job_id,
                      run.started_at, run.input.loaded(), text_of(run.input), more...);
  };
  const auto with_outcome = [&](const auto&... more) {
    return with_fields(run.oban_job_state_at_finalize, run.finalized_at, run.result.loaded(), text_of(run.result),
                       run.error.loaded(), text_of(run.error), run.stuck_pass, more...);
  };
  // The numbered parameters of the groups before stand there, used or not.
  Result<std::int64_t> updated = std::int64_t{0};
  if (change.reports_changed) {
    updated = with_outcome(run.expires_in, run.usage, run.progress);
  } else if (change.outcome_changed) {
    updated = with_outcome();
  } else if (change.fields_changed) {
    updated = with_fields();
  } else {
    updated = run_update();
  }
  if (!updated) return updated.error();
  return *updated == 1;
}

Result<bool> SqliteStore::write_history(const HistoryEntry& entry, std::string_view recorder, Timestamp now) {
  std::optional<std::string_view> pass_id;
  if (!entry.pass_id.empty()) pass_id = entry.pass_id;
  const auto inserted =
      write(kInsertEvent, entry.run_id, entry.seq, entry.type, entry.payload, now, entry.event_id, entry.at,
            entry.received_at, recorder, entry.peer_uid, entry.peer_pid, to_string(entry.effect), pass_id);
  if (!inserted) return inserted.error();
  return *inserted == 1;
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
  return Error{ErrorKind::kData,
               fmt::format("the history of run {} has an entry {} already, which its row does not know", entry.run_id,
                           entry.seq)};
}

// False: a letter that this batch takes out is no longer there.
Result<bool> SqliteStore::write_dead_letters(const RecorderSelf& self, const BatchWrite& batch, Timestamp now) {
  for (const DeadLetter& letter : batch.dead_letters) {
    const auto inserted =
        write(kInsertDeadLetter, self.id, letter.run_id, letter.type, letter.event_id, SqliteBlob{letter.record},
              letter.line, letter.sqlstate, letter.reason, letter.tries, letter.received_at, now);
    if (!inserted) return inserted.error();
  }
  for (const std::int64_t id : batch.retried) {
    const auto deleted = write(kDeleteDeadLetter, id, self.id);
    if (!deleted) return deleted.error();
    if (*deleted != 1) return false;
  }
  return true;
}

}  // namespace run_recorder
