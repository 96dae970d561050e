// One suite for every database: what a Store promises, tested on a real PostgreSQL and on SQLite with the same words.
// Each test begins with an empty database. Nothing here waits for time to pass; where a test needs an old time it
// writes one.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace run_recorder::testing {

inline constexpr std::string_view kPrefix = "council_ex_";

enum class Backend {
  kSqlite,
  kPostgres,      // every batch one statement
  kPostgresCopy,  // every batch by COPY
  // Every batch in pieces, a small one of one row each.
  kSqlitePieces,
  kPostgresPieces,
  kPostgresCopyPieces,
};
bool is_sqlite(Backend backend);
bool in_pieces(Backend backend);

// A database that a test may do anything to, beside the Store.
class TestDatabase {
 public:
  static std::unique_ptr<TestDatabase> create(Backend backend);
  virtual ~TestDatabase() = default;
  virtual std::string url() const = 0;
  // Runs statements that both databases understand; throws with the database's words.
  virtual void execute(const std::string& sql) = 0;
  // The first column of the rows, joined by newlines, NULL as "".
  virtual std::string query(const std::string& sql) = 0;
  // From now on no row of table for which the condition on NEW is true can be written; the words are the reason.
  virtual void refuse_rows(const std::string& table, const std::string& condition, const std::string& words) = 0;

  void set_time(const std::string& table, const std::string& column, Timestamp time, const std::string& where);
};

class StoreConformance : public ::testing::TestWithParam<Backend> {
 protected:
  using Run = run_recorder::Run;  // GoogleTest's Test has a private one
  void SetUp() override;

  StoreOptions options() const;
  std::unique_ptr<Store> open() const;
  Store& store() { return *store_; }
  TestDatabase& database() { return *database_; }

  // A batch of `self` that goes on where the last committed one ended.
  BatchWrite batch(std::vector<RunChange> runs, std::vector<HistoryEntry> history) const;
  // Commits it and expects success; keeps the position and the ledger.
  void commit(const BatchWrite& batch);
  Committed try_commit(const BatchWrite& batch);
  // Stores a row as its first event would: with one entry of the history.
  void store_run(Run run);
  // One more event of a stored run that changes nothing.
  void store_event(const std::string& run_id);
  Run stored(std::string_view run_id);  // whole
  Run loaded(std::string_view run_id);  // for deciding
  std::int64_t last_seq(std::string_view run_id) { return stored(run_id).last_seq; }
  std::uint64_t history_size(std::string_view run_id);
  std::vector<StoredEvent> history(std::string_view run_id);
  // All pages of it.
  std::vector<Run> chain(std::string_view run_id, std::size_t limit = 1'000);
  Timestamp now() { return store().database_now().value(); }

  // Where it writes in pieces: what is done behind each, and how many there were.
  std::function<void()> at_rest_ = [] {};
  std::size_t rests_ = 0;
  RecorderSelf self_{"recorder-1", "incarnation-1", "host-1", "0.1.0"};
  std::uint64_t position_ = 0;
  Ledger ledger_;

 private:
  std::unique_ptr<TestDatabase> database_;
  std::unique_ptr<Store> store_;
};

Run running(std::string run_id);
RunChange insert(Run run);
// A change to a stored row by one event; seq moves on by one.
RunChange update(Run before, bool fields = false, bool outcome = false);
HistoryEntry entry(std::string run_id, std::int64_t seq, std::string type = "note");
Timestamp at(const char* rfc3339);
// Moves one run in: whether it was new.
Result<bool> insert_one(Store& store, Run run, std::vector<StoredEvent> history);
std::vector<std::string> ids_of(const std::vector<Run>& runs);
std::vector<std::string> ids_of(const std::vector<RunningRow>& rows);

std::string name_of(const ::testing::TestParamInfo<Backend>& info);
inline auto both_databases() {
  return ::testing::Values(Backend::kSqlite, Backend::kPostgres);
}
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// Each line of the adapters is run all the same, in a fraction of the time.
inline auto all_backends() {
  return ::testing::Values(Backend::kSqlite, Backend::kPostgresCopy);
}
inline auto in_pieces_too() {
  return ::testing::Values(Backend::kSqlite, Backend::kPostgresCopy, Backend::kPostgresPieces);
}
#else
// Where batches are written, which PostgreSQL takes in two ways.
inline auto all_backends() {
  return ::testing::Values(Backend::kSqlite, Backend::kPostgres, Backend::kPostgresCopy);
}
inline auto in_pieces_too() {
  return ::testing::Values(Backend::kSqlite, Backend::kPostgres, Backend::kPostgresCopy, Backend::kSqlitePieces,
                           Backend::kPostgresPieces, Backend::kPostgresCopyPieces);
}
#endif

}  // namespace run_recorder::testing

// Values in failure messages.
namespace run_recorder::testing {
void PrintTo(Backend backend, std::ostream* out);
}
namespace run_recorder {
void PrintTo(const Run& run, std::ostream* out);
void PrintTo(Committed committed, std::ostream* out);
void PrintTo(const Error& error, std::ostream* out);
}  // namespace run_recorder
