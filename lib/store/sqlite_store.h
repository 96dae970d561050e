// The port's adapter for SQLite. See store.h for the contract; here is only what is SQLite's own: the clock is the
// host's, each call is one transaction, and a call that waits for another writer waits until its deadline.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "database/sqlite.h"
#include "store/paging.h"
#include "store/sqlite_migrate.h"
#include "store/sqlite_rows.h"
#include "store/store.h"

namespace run_recorder {

// See open_store(); clock stands for "the database's now".
Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options, WallClock clock = now_utc);

class SqliteStore final : public Store {
 public:
  SqliteStore(std::unique_ptr<SqliteConnection> connection, std::string_view table_prefix, const SqliteFill& fill,
              WallClock clock);

  Result<Checkpoint> check_in(const RecorderSelf& self) override;
  Result<bool> take_over(const RecorderSelf& self, std::string_view from) override;
  Result<std::vector<Run>> load(std::span<const std::string> run_ids) override;
  Result<std::vector<SameOutcome>> compare_outcomes(std::span<const SaidOutcome> said) override;
  Result<std::vector<std::pair<std::string, std::string>>> known_events(
      std::span<const std::pair<std::string, std::string>> ids) override;
  using Store::commit;
  Result<Committed> commit(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how) override;
  Result<Committed> rehearse(const RecorderSelf& self, std::span<const BatchWrite> batches) override;
  Result<IndexState> indexes() override { return IndexState(); }  // opening it required them

  Result<RunPage> list_runs(const RunFilter& filter) override;
  Result<std::optional<Run>> find_run(std::string_view run_id) override;
  Result<EventPage> list_events(std::string_view run_id, std::size_t limit, std::string_view cursor) override;
  Result<ChainPage> chain(std::string_view run_id, std::size_t limit, std::string_view cursor) override;
  Result<ReconciliationPage> list_reconciliations(std::size_t limit, std::string_view cursor,
                                                  std::string_view id_prefix) override;
  Result<std::map<Status, std::uint64_t>> count_by_status() override;

  Result<DeadLetterPage> list_dead_letters(std::size_t limit, std::string_view cursor) override;
  Result<std::optional<DeadLetter>> find_dead_letter(std::int64_t id) override;
  Result<void> note_refused_retry(std::int64_t id, std::string_view sqlstate, std::string_view reason) override;
  Result<bool> remove_dead_letter(std::int64_t id) override;

  Result<Timestamp> database_now() override { return clock_(); }
  Result<std::optional<std::chrono::milliseconds>> server_age() override {
    return std::optional<std::chrono::milliseconds>();
  }
  Result<bool> acquire_lease(std::string_view name, std::string_view holder,
                             std::chrono::milliseconds expiry) override;
  Result<void> release_lease(std::string_view name, std::string_view holder) override;
  Result<RunningGroups> running_groups(const EventWindow& window, bool with_jobs, std::size_t limit) override;
  Result<std::vector<RunningRow>> running_rows(std::string_view after, std::size_t limit, const EventWindow& window,
                                               const RunningGroups& without) override;
  Result<std::vector<RunningRow>> queued_rows(std::string_view after, std::size_t limit,
                                              const EventWindow& window) override;
  Result<std::uint64_t> count_running_since(Timestamp after, std::optional<Timestamp> until = {}) override;
  Result<std::uint64_t> count_queued_since(Timestamp after) override;
  Result<RunningCouncils> running_councils(std::size_t limit) override;
  Result<std::vector<RecentCouncil>> recent_councils(std::string_view recorder, std::size_t rows,
                                                     std::size_t limit) override;
  Result<std::vector<RunningRow>> running_rows_of(std::span<const std::string> processes,
                                                  std::span<const std::string> connections, std::string_view after,
                                                  std::size_t limit) override;
  Result<std::vector<RunningRow>> rows_named(std::span<const std::string> run_ids) override;
  Result<std::optional<RunningRow>> running_row(std::string_view run_id) override;
  Result<std::vector<std::string>> mark_stuck(const RecorderSelf& self, std::string_view pass_id,
                                              std::span<const StuckMark> marks) override;
  Result<Undone> undo_pass(const RecorderSelf& self, std::string_view pass_id) override;
  Result<void> save_reconciliation(const ReconciliationRow& row) override;

  Result<void> adopt_expectations(const RecorderSelf& self, std::span<const ExpectationDefinition> all) override;
  Result<std::vector<KnownExpectation>> known_expectations() override;
  Result<std::uint64_t> end_abandoned_findings(std::chrono::milliseconds unadopted_for) override;
  Result<std::vector<std::string>> council_names(std::size_t limit) override;
  Result<std::vector<StartedRun>> last_starts(std::span<const std::string> councils) override;
  Result<std::vector<RunningRow>> long_running(Timestamp started_until, std::string_view after,
                                               std::size_t limit) override;
  Result<std::vector<std::chrono::milliseconds>> durations(std::string_view council, std::size_t limit) override;
  Result<std::vector<bool>> open_findings(const RecorderSelf& self, std::span<const NewFinding> findings) override;
  Result<std::vector<bool>> end_findings(std::span<const FindingEnd> ends) override;
  Result<FindingPage> list_findings(const FindingFilter& filter, std::size_t limit, std::string_view cursor) override;
  Result<std::uint64_t> forget_findings(std::chrono::milliseconds older_than, std::size_t limit) override;

  Result<WholePage> whole_runs(std::size_t limit, std::string_view cursor) override;
  Result<PrunedPage> list_pruned(std::size_t limit, std::string_view cursor) override;
  Result<std::vector<RecorderRow>> list_recorders(std::string_view after, std::size_t limit) override;
  Result<std::vector<bool>> insert_whole(std::span<const MovedRun> runs) override;
  Result<void> insert_history(std::string_view run_id, std::span<const StoredEvent> part) override;
  Result<bool> insert_row(const Run& run) override;
  Result<void> remove_history(std::string_view run_id) override;
  Result<std::uint64_t> insert_pruned(std::span<const PrunedRun> runs) override;
  Result<bool> insert_reconciliation(const ReconciliationRow& row) override;
  Result<bool> insert_dead_letter(const DeadLetter& letter) override;
  Result<bool> insert_recorder(const RecorderRow& row) override;
  Result<AgedPage> aged_rows(Timestamp before, std::size_t limit, std::string_view cursor) override;
  Result<std::vector<AgedRow>> aged_chain(std::string_view run_id, std::size_t limit) override;
  Result<Pruned> prune(std::span<const std::vector<AgedRow>> chains) override;
  Result<std::vector<std::string>> pruned(std::span<const std::string> run_ids) override;
  Result<std::uint64_t> forget_pruned(std::chrono::milliseconds older_than, std::size_t limit) override;
  Result<AgedPassPage> aged_passes(std::size_t limit, std::string_view cursor) override;
  Result<std::uint64_t> remove_passes(std::span<const std::string> pass_ids) override;
  Result<void> keep_positions(const std::string& origin, std::span<const std::string> incarnations) override;
  Result<std::uint64_t> forget_positions(std::chrono::milliseconds unused_for, std::size_t spare,
                                         std::size_t limit) override;
  Result<ForgottenRecorders> forget_recorders(std::chrono::milliseconds unseen_for, std::size_t limit) override;

 private:
  // Begins every call: its deadline, and a look whether the file is still the one that was opened.
  Result<void> begin_call();
  // The statement for a text with {{prefix}} in it, prepared at its first use. The text must live as long as the
  // store.
  Result<SqliteStatement*> statement(std::string_view sql);

  // Runs one writing statement; how many rows it changed.
  template <class... Values>
  Result<std::int64_t> write(std::string_view sql, const Values&... values) {
    const auto prepared = statement(sql);
    if (!prepared) return prepared.error();
    return (*prepared)->execute(values...);
  }
  // The same with values that give(bind) binds one by one; whether it changed one row.
  template <class Give>
  Result<bool> write_one(std::string_view sql, const Give& give) {
    const auto prepared = statement(sql);
    if (!prepared) return prepared.error();
    const auto changed = (*prepared)->execute_with(give);
    if (!changed) return changed.error();
    return *changed == 1;
  }
  // Calls on_row(row) for every row, until it returns false.
  template <class OnRow, class... Values>
  Result<void> read(std::string_view sql, OnRow&& on_row, const Values&... values) {
    const auto prepared = statement(sql);
    if (!prepared) return prepared.error();
    return each((*prepared)->rows(values...), on_row);
  }
  template <class OnRow>
  static Result<void> each(SqliteRows rows, OnRow&& on_row) {
    while (true) {
      const auto found = rows.next();
      if (!found) return found.error();
      if (!*found || !on_row(rows)) return {};
    }
  }

  // Whether a statement brings any row.
  template <class... Values>
  Result<bool> finds(std::string_view sql, const Values&... values) {
    bool found = false;
    const auto on_row = [&found](const SqliteRows&) {
      found = true;
      return false;
    };
    if (auto done = read(sql, on_row, values...); !done) return done.error();
    return found;
  }
  // Calls on_row(row) for the row, as row_sql brings it, of each run of a chain, at most limit of them; whether the
  // chain has more.
  template <class OnRow>
  Result<bool> read_chain(std::string_view run_id, std::size_t limit, std::string_view row_sql, OnRow&& on_row) {
    if (auto begun = begin_call(); !begun) return begun.error();
    auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kRead);
    if (!transaction) return transaction.error();
    std::vector<std::string> ids;
    const auto on_id = [&ids](const SqliteRows& row) {
      ids.emplace_back(row.text(0));
      return true;
    };
    if (auto done = read(kChainIds, on_id, run_id, limit + 1); !done) return done.error();
    const bool more = ids.size() > limit;
    if (more) ids.pop_back();
    for (const std::string& id : ids) {
      if (auto done = read(row_sql, on_row, id); !done) return done.error();
    }
    return more;
  }

  Result<Committed> write_batch(const RecorderSelf& self, const BatchWrite& batch, Timestamp now,
                                const WritePieces* pieces = nullptr);
  Result<bool> at_position(const RecorderSelf& self, const BatchWrite& batch);
  Result<bool> write_run(const RunChange& change, Timestamp now);
  Result<bool> insert_run(const Run& run, Timestamp now, bool moved);
  Result<bool> update_run(const RunChange& change, Timestamp now);
  Result<Committed> raced_or_data(const HistoryEntry& entry, const BatchWrite& batch);
  Result<bool> write_history(const HistoryEntry& entry, std::string_view recorder, Timestamp now);
  Result<void> insert_letter(const DeadLetter& letter, std::string_view recorder, Timestamp inserted_at);
  Result<bool> write_dead_letters(const RecorderSelf& self, const BatchWrite& batch, Timestamp now);
  Result<void> read_positions(std::string_view recorder, Checkpoint& checkpoint);
  // False: another incarnation holds the id.
  Result<bool> touch_recorder(const RecorderSelf& self, Timestamp now);
  Result<std::optional<Holder>> holder_of(const std::string& id, Timestamp now);
  Result<bool> mark_one(const RecorderSelf& self, std::string_view pass_id, const StuckMark& mark, Timestamp now);
  Result<bool> undo_one(const RecorderSelf& self, std::string_view pass_id, std::string_view run_id,
                        std::int64_t marked_seq, Timestamp now);
  Result<bool> write_whole(const Run& run, Timestamp now);
  Result<bool> write_with_history(const MovedRun& moved, Timestamp now);
  Result<bool> may_go(const std::vector<AgedRow>& chain);
  Result<std::map<Status, std::uint64_t>> count_in_part();
  struct ListPlan;
  Result<ListPlan> plan_of(const RunFilter& filter, const std::optional<PagePlace>& after);
  // Whether there are no more than kFewRows of them.
  Result<bool> is_few(std::string_view from, std::span<const std::string> texts);
  template <class... Values>
  Result<std::vector<RunningRow>> read_running_rows(std::string_view sql, const Values&... values);
  Result<std::vector<RunningRow>> rows_within(std::string_view sql, std::string_view after, std::size_t limit,
                                              const EventWindow& window);
  Result<std::uint64_t> count_since(std::string_view sql, Timestamp after, std::optional<Timestamp> until);
  RunningRow read_running_row(const SqliteRows& row, Timestamp now) const;

  // statements_ must go before the connection.
  std::unique_ptr<SqliteConnection> connection_;
  const std::string table_prefix_;
  const WallClock clock_;
  const std::string insert_run_sql_, insert_event_sql_;
  std::string update_sql_[2][2][2];  // [fields changed][outcome changed][reports changed]
  std::unordered_map<std::string_view, SqliteStatement> statements_;
};

}  // namespace run_recorder
