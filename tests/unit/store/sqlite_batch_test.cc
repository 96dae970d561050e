// How SQLite goes about a batch: what no result shows, but the time does.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

// SQLite's own file system, which counts the statement journals: temporary files that get a copy of each page before
// a statement that could fail half way changes it.
class CountingFiles {
 public:
  CountingFiles() {
    own_ = sqlite3_vfs_find(nullptr);
    journals_ = 0;
    counting_ = *own_;
    counting_.zName = "counting";
    counting_.xOpen = [](sqlite3_vfs*, sqlite3_filename name, sqlite3_file* file, int flags, int* given) {
      if ((flags & SQLITE_OPEN_SUBJOURNAL) != 0) ++journals_;
      return own_->xOpen(own_, name, file, flags, given);
    };
    sqlite3_vfs_register(&counting_, 1);
  }
  ~CountingFiles() {
    sqlite3_vfs_unregister(&counting_);
    sqlite3_vfs_register(own_, 1);
  }
  CountingFiles(const CountingFiles&) = delete;
  CountingFiles& operator=(const CountingFiles&) = delete;

  static int statement_journals() { return journals_; }

 private:
  static inline sqlite3_vfs* own_ = nullptr;
  static inline sqlite3_vfs counting_{};
  static inline int journals_ = 0;
};

using SqliteBatch = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Database, SqliteBatch, ::testing::Values(Backend::kSqlite), name_of);

}  // namespace

TEST_P(SqliteBatch, StatementsNeedNoStatementJournal) {
  const CountingFiles files;
  const auto counted = open();  // a connection of its own, over the files that count
  constexpr int kRuns = 2'000;  // so many pages that a journal does not stay in memory
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> history;
  for (int number = 0; number < kRuns; ++number) {
    Run run = running("run-" + std::to_string(number));
    run.input = '"' + std::string(1'000, 'x') + '"';
    run.last_seq = 1;
    runs.push_back(insert(run));
    history.push_back(entry(run.run_id, 1));
  }
  BatchWrite first = batch(runs, history);
  ASSERT_EQ(counted->commit(self_, first).value(), Committed::kYes);
  position_ = first.to;
  ledger_ = first.ledger;
  std::vector<RunChange> ends;
  history.clear();
  for (const RunChange& begun : runs) {
    RunChange end = update(begun.after, false, true);
    end.after.result = '"' + std::string(1'000, 'y') + '"';
    history.push_back(entry(end.after.run_id, end.after.last_seq));
    ends.push_back(std::move(end));
  }
  ASSERT_EQ(counted->commit(self_, batch(ends, history)).value(), Committed::kYes);
  EXPECT_EQ(CountingFiles::statement_journals(), 0);
}

}  // namespace run_recorder::testing
