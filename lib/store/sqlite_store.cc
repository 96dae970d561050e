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

constexpr std::string_view kReadPositions =
    "SELECT incarnation, applied FROM \"{{prefix}}positions\" WHERE recorder = ?1";
constexpr std::string_view kReadOutcome = "SELECT result, error FROM \"{{prefix}}runs\" WHERE run_id = ?1";

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options, WallClock clock) {
  auto connection = open_sqlite_with_schema(options);
  if (!connection) return connection.error();
  auto fill = columns_to_fill(**connection, options.table_prefix);
  if (!fill) return fill.error();
  return std::unique_ptr<Store>(
      std::make_unique<SqliteStore>(std::move(*connection), options.table_prefix, *fill, std::move(clock)));
}

SqliteStore::SqliteStore(std::unique_ptr<SqliteConnection> connection, std::string_view table_prefix,
                         const SqliteFill& fill, WallClock clock)
    : connection_(std::move(connection)),
      table_prefix_(table_prefix),
      clock_(std::move(clock)),
      insert_run_sql_(insert_run_sql(fill.runs)),
      insert_event_sql_(insert_event_sql(fill.run_events)) {
  for (const bool fields : {false, true}) {
    for (const bool outcome : {false, true}) {
      for (const bool reports : {false, true}) {
        RunChange groups;
        groups.fields_changed = fields;
        groups.outcome_changed = outcome;
        groups.reports_changed = reports;
        update_sql_[fields][outcome][reports] = update_run_sql(groups);
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
  auto prepared = connection_->prepare(with_prefix(sql, table_prefix_));
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
  static const std::string sql =
      fmt::format("SELECT {} FROM \"{{{{prefix}}}}recorders\" WHERE id = ?1", kRecorderColumns);
  const auto on_row = [&checkpoint](const SqliteRows& row) {
    SqliteFields fields(row);
    checkpoint = read_recorder(fields).checkpoint;
    return false;
  };
  if (auto done = read(sql, on_row, self.id); !done) return done.error();
  if (auto done = read_positions(self.positions_of(), checkpoint); !done) return done.error();
  if (auto done = touch_recorder(self, now); !done) return done.error();
  if (auto done = transaction->commit(); !done) return done.error();
  return checkpoint;
}

Result<void> SqliteStore::read_positions(std::string_view recorder, Checkpoint& checkpoint) {
  const auto on_row = [&checkpoint](const SqliteRows& row) {
    checkpoint.applied.emplace(row.text(0), static_cast<std::uint64_t>(row.integer(1)));
    return true;
  };
  return read(kReadPositions, on_row, recorder);
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

}  // namespace run_recorder
