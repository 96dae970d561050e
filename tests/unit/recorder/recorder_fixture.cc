#include "recorder_fixture.h"

#include <fmt/format.h>

#include <thread>

#include "protocol/protocol.h"
#include "support/migrated_postgres.h"
#include "support/private_postgres.h"

namespace run_recorder::testing {

namespace fs = std::filesystem;

bool eventually(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + kLongest;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

std::string line_of(const std::string& type, const std::string& run_id, const std::string& more) {
  return fmt::format(R"({{"type":"{}","run_id":"{}"{}{}}})", type, run_id, more.empty() ? "" : ",", more);
}

std::string envelope_of(const std::string& line) {
  Envelope envelope;
  envelope.received_at = parse_rfc3339("2026-03-01T12:00:00Z").value();
  envelope.peer_uid = 1'000;
  envelope.peer_pid = 4'711;
  envelope.connection = "c-1";
  envelope.line = line;
  return encode_envelope(envelope);
}

SpooledEvent spooled_event(std::uint64_t seq, const std::string& line) {
  const std::string body = envelope_of(line);
  return {seq, decode_record(body).value(), body.size()};
}

std::string name_of(const ::testing::TestParamInfo<DatabaseKind>& info) {
  return info.param == DatabaseKind::kSqlite ? "Sqlite" : "Postgres";
}

RecorderFixture::RecorderFixture() {
  spool_options_.path = spool_path();
  spool_options_.min_free = 0;
  // What is asserted here does not depend on what a disk really holds.
  spool_options_.sync = [](int) { return 0; };
  recorder_options_.host = "host-1";
  recorder_options_.version = "0.1.0";
}

void RecorderFixture::SetUp() {
  if (GetParam() == DatabaseKind::kPostgres) {
    if (!PrivatePostgres::installed()) GTEST_SKIP() << "PostgreSQL is not installed";
    url_ = create_migrated_database();
  } else {
    url_ = "sqlite:" + folder_.file("runs.db");
  }
  open_spool();
}

void RecorderFixture::TearDown() {
  recorder_.reset();
  spool_.reset();
  if (GetParam() == DatabaseKind::kPostgres && !url_.empty()) PrivatePostgres::shared().drop_database(url_);
}

// ---- the spool

void RecorderFixture::open_spool() {
  auto opened = Spool::open(spool_options_, opening_);
  ASSERT_TRUE(opened) << opened.error().message;
  spool_ = std::move(*opened);
}

std::uint64_t RecorderFixture::append_record(const std::string& body) {
  const Spool::Entry entry{body, true};
  const auto appended = spool_->append({&entry, 1});
  EXPECT_TRUE(appended);
  return appended->first_seq;
}

std::uint64_t RecorderFixture::append(const std::vector<std::string>& lines, bool told) {
  std::vector<std::string> bodies;
  for (const std::string& line : lines) bodies.push_back(envelope_of(line));
  std::vector<Spool::Entry> entries;
  for (const std::string& body : bodies) entries.push_back({body, true});
  const auto appended = spool_->append(entries);
  EXPECT_TRUE(appended) << appended.error().message;
  for (const auto admission : appended->admissions) EXPECT_EQ(admission, Spool::Admission::kAccepted);
  if (told && recorder_) {
    std::vector<SpooledEvent> events;
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      events.push_back({appended->first_seq + i, decode_record(bodies[i]).value(), bodies[i].size()});
    }
    recorder_->accept(std::move(events));
  }
  return appended->first_seq;
}

void RecorderFixture::copy_spool(const std::string& name) const {
  fs::copy(spool_path(), folder_.path() / name, fs::copy_options::recursive);
}

void RecorderFixture::restore_spool(const std::string& name) const {
  fs::remove_all(spool_path());
  fs::copy(folder_.path() / name, spool_path(), fs::copy_options::recursive);
}

// ---- the recorder

void RecorderFixture::make_recorder(std::unique_ptr<JobQueue> queue) {
  recorder_options_.store = store_options();
  NamedQueues queues;
  if (queue) queues.push_back({"default", std::move(queue)});
  recorder_ = std::make_unique<Recorder>(recorder_options_, *spool_, std::move(queues));
}

void RecorderFixture::start() {
  if (!recorder_) make_recorder();
  recorder_->start();
}

void RecorderFixture::stop() {
  recorder_.reset();
  spool_.reset();
}

void RecorderFixture::restart() {
  stop();
  open_spool();
  start();
}

void RecorderFixture::settle() {
  recorder_->accept({});
  // Once the database is up the recorder knows what that has; the hint alone may be wrong.
  ASSERT_TRUE(eventually([&] { return status().database == DatabaseState::kUp; })) << status().database_error;
  ASSERT_TRUE(recorder_->wait_applied(recorder_->accepted_seq(), kLongest)) << status().database_error;
  expect_identity();
}

CouncilTotals RecorderFixture::council(std::string_view name) const {
  for (CouncilTotals& totals : status().councils) {
    if (totals.council == name) return std::move(totals);
  }
  return {};
}

void RecorderFixture::expect_identity() const {
  const RecorderStatus now = recorder_->status();
  const Ledger& ledger = now.ledger;
  EXPECT_EQ(now.accepted,
            ledger.applied + ledger.duplicate + now.waiting + ledger.dead_letters + ledger.dead_letters_removed);
}

bool RecorderFixture::is_away() const {
  const DatabaseState state = recorder_->status().database;
  return state == DatabaseState::kAway || state == DatabaseState::kRefused;
}

// ---- the database

StoreOptions RecorderFixture::store_options() const {
  StoreOptions options;
  options.url = url_;
  return options;
}

std::unique_ptr<Store> RecorderFixture::open_store() const {
  auto opened = run_recorder::open_store(store_options());
  if (!opened) throw std::runtime_error(opened.error().message);
  return std::move(*opened);
}

std::unique_ptr<Store> RecorderFixture::open_new_store() const {
  if (const auto migrated = migrate(store_options(), false); !migrated) {
    throw std::runtime_error(migrated.error().message);
  }
  return open_store();
}

void RecorderFixture::execute(const std::string& sql) const {
  if (GetParam() == DatabaseKind::kPostgres) {
    PrivatePostgres::shared().query(url_, sql);
    return;
  }
  auto connection = SqliteConnection::open({.path = sqlite_path(url_), .create = true}).value();
  connection->begin_call();
  connection->execute(sql).value();
}

std::string RecorderFixture::query(const std::string& sql) const {
  if (GetParam() == DatabaseKind::kPostgres) return PrivatePostgres::shared().query(url_, sql);
  auto connection = SqliteConnection::open({.path = sqlite_path(url_), .create = false}).value();
  connection->begin_call();
  auto statement = connection->prepare(sql);
  SqliteRows rows = statement.value().rows();
  std::string lines;
  for (bool first = true; rows.next().value(); first = false) {
    if (!first) lines += '\n';
    lines += rows.text(0);
  }
  return lines;
}

void RecorderFixture::refuse_rows(const std::string& table, const std::string& condition) const {
  if (GetParam() == DatabaseKind::kPostgres) {
    execute(
        fmt::format("CREATE FUNCTION refuse_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "RAISE EXCEPTION 'not this one'; END $$; "
                    "CREATE TRIGGER refused BEFORE INSERT OR UPDATE ON council_ex_{0} FOR EACH ROW WHEN ({1}) "
                    "EXECUTE FUNCTION refuse_{0}()",
                    table, condition));
    return;
  }
  for (const char* operation : {"INSERT", "UPDATE"}) {
    execute(
        fmt::format("CREATE TRIGGER refused_{0}_{1} BEFORE {1} ON council_ex_{0} WHEN {2} BEGIN "
                    "SELECT RAISE(ABORT, 'not this one'); END",
                    table, operation, condition));
  }
}

void RecorderFixture::accept_rows(const std::string& table) const {
  if (GetParam() == DatabaseKind::kPostgres) {
    execute(fmt::format("DROP TRIGGER refused ON council_ex_{0}; DROP FUNCTION refuse_{0}()", table));
  } else {
    execute(fmt::format("DROP TRIGGER refused_{0}_INSERT; DROP TRIGGER refused_{0}_UPDATE", table));
  }
}

void RecorderFixture::copy_database(const std::string& name) const {
  execute(fmt::format("VACUUM INTO '{}'", folder_.file(name)));
}

void RecorderFixture::restore_database(const std::string& name) const {
  const std::string path = sqlite_path(url_);
  for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(path + suffix);
  fs::copy_file(folder_.path() / name, path);
}

void RecorderFixture::make_lite_queue() const {
  execute(
      "CREATE TABLE oban_jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL DEFAULT 'available', "
      "queue TEXT NOT NULL DEFAULT 'default', worker TEXT NOT NULL DEFAULT 'W', args JSON NOT NULL DEFAULT ('{}'), "
      "meta JSON NOT NULL DEFAULT ('{}'), tags JSON NOT NULL DEFAULT ('[]'), errors JSON NOT NULL DEFAULT ('[]'), "
      "attempt INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 20, priority INTEGER NOT NULL "
      "DEFAULT 0, attempted_by JSON NOT NULL DEFAULT ('[]'), inserted_at TEXT NOT NULL, scheduled_at TEXT NOT NULL, "
      "attempted_at TEXT, completed_at TEXT, cancelled_at TEXT, discarded_at TEXT)");
}

void RecorderFixture::put_job(std::int64_t id, const std::string& state, int attempt,
                              const std::string& changed_at) const {
  execute(
      fmt::format("INSERT OR REPLACE INTO oban_jobs (id, state, attempt, inserted_at, scheduled_at, attempted_at) "
                  "VALUES ({0}, '{1}', {2}, '2026-02-28T00:00:00', '{3}', '2026-02-28T00:00:00')",
                  id, state, attempt, changed_at));
}

void RecorderFixture::hide_database() const {
  // A folder in its place cannot be opened.
  const std::string path = sqlite_path(url_);
  for (const char* suffix : {"", "-wal", "-shm"}) {
    if (fs::exists(path + suffix)) fs::rename(path + suffix, path + ".away" + suffix);
  }
  fs::create_directory(path);
}

void RecorderFixture::show_database() const {
  const std::string path = sqlite_path(url_);
  fs::remove(path);
  for (const char* suffix : {"", "-wal", "-shm"}) {
    if (fs::exists(path + ".away" + suffix)) fs::rename(path + ".away" + suffix, path + suffix);
  }
}

Row RecorderFixture::row(const std::string& run_id) const {
  const auto found = open_store()->find_run(run_id);
  if (!found || !*found) throw std::runtime_error("no run " + run_id);
  return **found;
}

std::vector<std::string> RecorderFixture::history(const std::string& run_id) const {
  std::vector<std::string> lines;
  const auto page = open_store()->list_events(run_id, 1'000, {});
  for (const StoredEvent& event : page.value().events) {
    lines.push_back(fmt::format("{} {} {}", event.entry.seq, event.entry.type, to_string(event.entry.effect)));
  }
  return lines;
}

std::uint64_t RecorderFixture::count(const std::string& table, const std::string& where) const {
  return std::stoull(query(fmt::format("SELECT count(*) FROM council_ex_{} WHERE {}", table, where)));
}

}  // namespace run_recorder::testing
