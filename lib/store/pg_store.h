// The port's adapter for PostgreSQL. See store.h for the contract; here is only what is PostgreSQL's own: the clock
// is the server's, every statement states the types of the tables it found when it was opened, and nothing depends on
// what the session, role or server is set to.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "database/pg_connection.h"
#include "run/finding.h"
#include "store/paging.h"
#include "store/pg_batch.h"
#include "store/pg_copy.h"
#include "store/pg_migrate.h"
#include "store/pg_rows.h"
#include "store/pg_schema.h"
#include "store/store.h"

namespace run_recorder {

// See open_store().
Result<std::unique_ptr<Store>> open_pg_store(const StoreOptions& options);

class PgStore final : public Store {
 public:
  // copy_rows: batches of so many rows go by COPY, where the tables allow it.
  PgStore(std::unique_ptr<PgConnection> connection, PgSchema schema, std::size_t copy_rows);

  Result<Checkpoint> check_in(const RecorderSelf& self) override;
  Result<bool> take_over(const RecorderSelf& self, std::string_view from) override;
  Result<std::vector<Run>> load(std::span<const std::string> run_ids) override;
  Result<std::vector<SameOutcome>> compare_outcomes(std::span<const SaidOutcome> said) override;
  Result<std::vector<std::pair<std::string, std::string>>> known_events(
      std::span<const std::pair<std::string, std::string>> ids) override;
  using Store::commit;
  Result<Committed> commit(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how) override;
  std::unique_ptr<PreparedWrite> prepare(const RecorderSelf& self, const BatchWrite& batch) const override;
  Result<Committed> rehearse(const RecorderSelf& self, std::span<const BatchWrite> batches) override;
  Result<IndexState> indexes() override;

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

  Result<Timestamp> database_now() override;
  Result<std::optional<std::chrono::milliseconds>> server_age() override;
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
  Result<Holder> holder_of(const std::string& id);
  std::string table(std::string_view name) const { return schema_.table(name); }
  // The rows of the chain of run $1, at most so many; `columns` of table alias r.
  std::string chain_sql(std::string_view columns, std::size_t limit) const;
  // Parts of lists, bounded by rows and by bytes.
  Result<std::map<Status, std::uint64_t>> count_in_part();
  struct RunsPlan;
  Result<RunsPlan> plan_of(const RunFilter& filter);
  Result<bool> is_few(const PgCommand& entries);
  Result<RunPage> some_runs(const RunFilter& filter, const RunsPlan& plan, std::size_t& examined);
  Result<EventPage> some_events(std::string_view run_id, std::size_t limit, std::string_view cursor);
  Result<WholePage> some_whole_runs(std::size_t limit, std::string_view cursor);
  Result<ReconciliationPage> some_reconciliations(std::size_t limit, std::string_view cursor,
                                                  std::string_view id_prefix);
  Result<std::vector<Run>> chain_order(std::string_view run_id, bool& truncated);
  Result<std::vector<RunningRow>> rows_within(std::string_view which, std::string_view after, std::size_t limit,
                                              const EventWindow& window, const RunningGroups& without = {});
  std::string within_sql(std::string_view before, std::string_view ahead_of, std::string_view not_before) const;
  std::string in_a_group_sql(bool with_jobs) const;
  Result<std::uint64_t> count_since(std::string_view which, Timestamp after, std::optional<Timestamp> until);
  std::string running_row_sql(std::string_view where) const;
  std::string aged_row_list() const;

  // Appends to `same`.
  Result<void> compare_some(std::span<const SaidOutcome> said, std::vector<SameOutcome>& same);
  Result<Committed> write_batch(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how);
  // Empty: the rows cannot be copied, because triggers may drop some. Nothing was written then.
  Result<std::optional<Committed>> write_batch(const RecorderSelf& self, const BatchWrite& batch,
                                               PgBatch::Inserts inserts, const CommitHow& how);
  bool by_copy(const BatchWrite& batch) const { return batch.history.size() >= copy_rows_; }
  // Inside of a transaction, the rest as above.
  Result<std::optional<Committed>> write_rows(const RecorderSelf& self, const BatchWrite& batch,
                                              PgBatch::Inserts inserts, const CommitHow& how);
  // False: raced.
  Result<bool> write_pieces(const RecorderSelf& self, const BatchWrite& batch, PgBatch::Inserts inserts,
                            const WritePieces& pieces);
  // A statement that makes entries of the history, outside of a transaction; once more where an id was taken because
  // the sequence stood behind.
  Result<pqxx::result> exec_giving_ids(const std::string& statement, std::initializer_list<PgParam> params);
  Result<Committed> taken_key(const Error& error, const RecorderSelf& self, const BatchWrite& batch);
  Result<Committed> raced_or(const Error& error, const RecorderSelf& self, const BatchWrite& batch);
  struct UndoStep {
    std::uint64_t seen = 0;
    std::uint64_t undone = 0;
    std::string last_run_id;
  };
  std::string mark_sql(const BulkTransition& to) const;
  std::string undo_sql(const UndoTransition& running, const UndoTransition& queued) const;
  std::string insert_found_sql() const;
  std::string found_times_sql() const;
  Result<UndoStep> undo_some(const RecorderSelf& self, std::string_view pass_id, const std::string& after);

  std::unique_ptr<PgConnection> connection_;
  const PgSchema schema_;
  const PgBatch batch_;
  const PgCopy copy_;
  const PgRowSql moved_run_, moved_history_;
  const std::size_t copy_rows_;
  bool may_copy_;
};

}  // namespace run_recorder
