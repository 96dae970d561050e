#include "conformance_fixture.h"

#include <fmt/format.h>

#include <array>
#include <ostream>
#include <stdexcept>

#include "database/sqlite.h"
#include "support/migrated_postgres.h"
#include "support/private_postgres.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {

namespace {

class SqliteTestDatabase final : public TestDatabase {
 public:
  std::string url() const override { return "sqlite:" + path(); }

  void execute(const std::string& sql) override { connection().execute(sql).value(); }

  std::string query(const std::string& sql) override {
    auto statement = connection().prepare(sql);
    SqliteRows rows = statement.value().rows();
    std::string lines;
    for (bool first = true; rows.next().value(); first = false) {
      if (!first) lines += '\n';
      lines += rows.text(0);
    }
    return lines;
  }

  void refuse_rows(const std::string& table, const std::string& condition, const std::string& words) override {
    for (const char* operation : {"INSERT", "UPDATE"}) {
      execute(
          fmt::format("CREATE TRIGGER \"{0}_{1}_refused\" BEFORE {1} ON \"{0}\" WHEN {2} BEGIN "
                      "SELECT RAISE(ABORT, '{3}'); END",
                      table, operation, condition, words));
    }
  }

 private:
  std::string path() const { return folder_.file("runs.db"); }
  SqliteConnection& connection() {
    if (!connection_) connection_ = SqliteConnection::open({.path = path(), .create = true}).value();
    connection_->begin_call();
    return *connection_;
  }

  TempFolder folder_;
  std::unique_ptr<SqliteConnection> connection_;
};

class PostgresTestDatabase final : public TestDatabase {
 public:
  ~PostgresTestDatabase() override { PrivatePostgres::shared().drop_database(url_); }
  std::string url() const override { return url_; }
  void execute(const std::string& sql) override { PrivatePostgres::shared().query(url_, sql); }
  std::string query(const std::string& sql) override { return PrivatePostgres::shared().query(url_, sql); }

  void refuse_rows(const std::string& table, const std::string& condition, const std::string& words) override {
    execute(
        fmt::format("CREATE FUNCTION refuse_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "RAISE EXCEPTION '{1}'; END $$; "
                    "CREATE TRIGGER refused BEFORE INSERT OR UPDATE ON \"{0}\" FOR EACH ROW WHEN ({2}) "
                    "EXECUTE FUNCTION refuse_{0}()",
                    table, words, condition));
  }

 private:
  const std::string url_ = create_migrated_database();
};

}  // namespace

bool is_sqlite(Backend backend) {
  return backend == Backend::kSqlite || backend == Backend::kSqlitePieces;
}

bool in_pieces(Backend backend) {
  return backend >= Backend::kSqlitePieces;
}

std::unique_ptr<TestDatabase> TestDatabase::create(Backend backend) {
  if (is_sqlite(backend)) return std::make_unique<SqliteTestDatabase>();
  return std::make_unique<PostgresTestDatabase>();
}

void TestDatabase::set_time(const std::string& table, const std::string& column, Timestamp time,
                            const std::string& where) {
  execute(fmt::format("UPDATE \"{}{}\" SET {} = '{}' WHERE {}", kPrefix, table, column, format_rfc3339(time), where));
}

// ---- the fixture

void StoreConformance::SetUp() {
  if (!is_sqlite(GetParam()) && !PrivatePostgres::installed()) {
    GTEST_SKIP() << "PostgreSQL is not installed";
  }
  database_ = TestDatabase::create(GetParam());
  if (is_sqlite(GetParam())) {
    const auto migrated = migrate(options(), false);
    ASSERT_TRUE(migrated) << migrated.error().message;
  }
  store_ = open();
  ASSERT_TRUE(store_);
}

StoreOptions StoreConformance::options() const {
  StoreOptions options;
  options.url = database_->url();
  const bool copies = GetParam() == Backend::kPostgresCopy || GetParam() == Backend::kPostgresCopyPieces;
  options.copy_rows = copies ? 1 : 1'000'000;
  return options;
}

std::unique_ptr<Store> StoreConformance::open() const {
  auto opened = open_store(options());
  if (opened) return std::move(*opened);
  ADD_FAILURE() << opened.error().message;
  return nullptr;
}

BatchWrite StoreConformance::batch(std::vector<RunChange> runs, std::vector<HistoryEntry> history) const {
  BatchWrite write;
  write.runs = std::move(runs);
  write.history = std::move(history);
  write.incarnation = self_.incarnation;
  write.from = position_;
  write.to = position_ + write.history.size();
  write.ledger = ledger_;
  write.ledger.applied += write.history.size();
  return write;
}

Committed StoreConformance::try_commit(const BatchWrite& batch) {
  const WritePieces pieces{1 + batch.runs.size() / 100, [this] {
                             ++rests_;
                             at_rest_();
                           }};
  const auto committed = store().commit(self_, batch, {nullptr, in_pieces(GetParam()) ? &pieces : nullptr});
  if (!committed) throw std::runtime_error(committed.error().message);
  if (*committed == Committed::kYes) {
    if (!batch.incarnation.empty()) position_ = batch.to;
    ledger_ = batch.ledger;
  }
  return *committed;
}

void StoreConformance::commit(const BatchWrite& batch) {
  ASSERT_EQ(try_commit(batch), Committed::kYes);
}

void StoreConformance::store_run(Run run) {
  run.last_seq = 1;
  const std::string run_id = run.run_id;
  commit(batch({insert(std::move(run))}, {entry(run_id, 1)}));
}

void StoreConformance::store_event(const std::string& run_id) {
  const RunChange change = update(stored(run_id));
  commit(batch({change}, {entry(run_id, change.after.last_seq)}));
}

run_recorder::Run StoreConformance::stored(std::string_view run_id) {
  auto found = store().find_run(run_id).value();
  if (!found) throw std::runtime_error(fmt::format("there is no run {}", run_id));
  return *found;
}

std::vector<run_recorder::Run> StoreConformance::chain(std::string_view run_id, std::size_t limit) {
  std::vector<Run> runs;
  std::string cursor;
  do {
    ChainPage page = store().chain(run_id, limit, cursor).value();
    for (Run& run : page.runs) runs.push_back(std::move(run));
    cursor = page.next;
  } while (!cursor.empty());
  return runs;
}

run_recorder::Run StoreConformance::loaded(std::string_view run_id) {
  auto rows = store().load(std::array{std::string(run_id)}).value();
  if (rows.size() != 1) throw std::runtime_error(fmt::format("there is no run {}", run_id));
  return rows.front();
}

std::vector<StoredEvent> StoreConformance::history(std::string_view run_id) {
  return store().list_events(run_id, 1'000, "").value().events;
}

std::uint64_t StoreConformance::history_size(std::string_view run_id) {
  return history(run_id).size();
}

// ---- values

Run running(std::string run_id) {
  Run run;
  run.run_id = std::move(run_id);
  run.council = "demo";
  run.status = Status::kRunning;
  run.recorder = "recorder-1";
  run.started_at = at("2026-01-02T03:04:05Z");
  return run;
}

RunChange insert(Run run) {
  RunChange change;
  change.after = std::move(run);
  change.insert = true;
  change.fields_changed = true;
  change.outcome_changed = true;
  return change;
}

RunChange update(Run before, bool fields, bool outcome) {
  RunChange change;
  change.after = std::move(before);
  change.expected_last_seq = change.after.last_seq++;
  change.fields_changed = fields;
  change.outcome_changed = outcome;
  return change;
}

HistoryEntry entry(std::string run_id, std::int64_t seq, std::string type) {
  HistoryEntry entry;
  entry.run_id = std::move(run_id);
  entry.seq = seq;
  entry.type = std::move(type);
  entry.payload = R"({"n":1})";
  entry.received_at = at("2026-01-02T03:04:05.678901Z");
  return entry;
}

Timestamp at(const char* rfc3339) {
  return parse_rfc3339(rfc3339).value();
}

Result<bool> insert_one(Store& store, Run run, std::vector<StoredEvent> history) {
  const MovedRun moved[] = {{std::move(run), std::move(history)}};
  const auto added = store.insert_whole(moved);
  if (!added) return added.error();
  return added->at(0);
}

std::vector<std::string> ids_of(const std::vector<Run>& runs) {
  std::vector<std::string> ids;
  for (const Run& run : runs) ids.push_back(run.run_id);
  return ids;
}

std::vector<std::string> ids_of(const std::vector<RunningRow>& rows) {
  std::vector<std::string> ids;
  for (const RunningRow& row : rows) ids.push_back(row.run.run_id);
  return ids;
}

std::string name_of(const ::testing::TestParamInfo<Backend>& info) {
  switch (info.param) {
    case Backend::kSqlite:
      return "Sqlite";
    case Backend::kPostgres:
      return "Postgres";
    case Backend::kPostgresCopy:
      return "PostgresCopy";
    case Backend::kSqlitePieces:
      return "SqlitePieces";
    case Backend::kPostgresPieces:
      return "PostgresPieces";
    case Backend::kPostgresCopyPieces:
      return "PostgresCopyPieces";
  }
  return "";
}

void PrintTo(Backend backend, std::ostream* out) {
  *out << name_of({backend, 0});
}

}  // namespace run_recorder::testing

namespace run_recorder {

void PrintTo(const Run& run, std::ostream* out) {
  *out << run.run_id << " " << to_string(run.status) << " seq " << run.last_seq;
}

void PrintTo(Committed committed, std::ostream* out) {
  switch (committed) {
    case Committed::kYes:
      *out << "committed";
      return;
    case Committed::kRaced:
      *out << "raced";
      return;
    case Committed::kCollided:
      *out << "collided";
      return;
    case Committed::kMisplaced:
      *out << "misplaced";
      return;
  }
}

void PrintTo(const Error& error, std::ostream* out) {
  *out << "error " << static_cast<int>(error.kind) << ": " << error.message;
}

}  // namespace run_recorder
