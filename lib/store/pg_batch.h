// One transaction of the recorder as one statement: rows, history, dead letters, ledger and position are parts of it.
// The usual updates are fed by arrays, all other parts by jsonb_to_recordset from one JSON parameter each, which
// measured as the fastest statement for what may write any column. The parts count what they did, and the caller
// compares. In a large batch the new rows and the history have been copied before (pg_copy.h). For the PostgreSQL
// adapter's files; for one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/pg_command.h"
#include "store/pg_row_sql.h"
#include "store/pg_schema.h"
#include "store/pg_updates.h"
#include "store/store.h"

namespace run_recorder {

class PgBatch {
 public:
  explicit PgBatch(const PgSchema& schema);

  // How the new rows and the history get into the tables.
  enum class Inserts {
    kHere,    // by this statement
    kCopied,  // before it, in its transaction
  };
  // Who writes what changes rows: the statement, or run_pieces() before it in the same transaction.
  enum class Changes { kHere, kInPieces };
  // Its result is one row: the counts in this order, how many more were updated (twice), then age_select().
  PgCommand write(const RecorderSelf& self, const BatchWrite& batch, Inserts inserts,
                  Changes changes = Changes::kHere) const;
  // Statements for the changes of existing rows, and for new rows and history where they are not copied; at most so
  // many rows each. They are to be run before the copy: what guards a change looks at the history as it was.
  struct Piece {
    PgCommand command;
    std::uint64_t rows = 0;  // as many are written, or it was raced
  };
  // Stops with the first one that `run` does not return true for, and returns its result.
  using RunPiece = std::function<Result<bool>(const Piece&)>;
  Result<bool> run_pieces(const RecorderSelf& self, const BatchWrite& batch, Inserts inserts, std::size_t rows,
                          const RunPiece& run) const;
  struct Counts {
    std::uint64_t moved = 0;  // how often the position did
    std::uint64_t updated = 0;
    std::uint64_t beaten = 0;    // rows that heartbeats renewed
    std::uint64_t retried = 0;   // dead letters taken out
    std::uint64_t inserted = 0;  // kHere; a trigger may drop rows and say nothing
    std::uint64_t history = 0;   // kHere
    std::uint64_t pruned = 0;    // kCopied: new rows of removed runs
    std::uint64_t triggers = 0;  // kCopied: triggers that may have dropped rows
    std::uint64_t held = 1;      // 0: another incarnation holds the recorder's id
    bool operator==(const Counts&) const = default;
  };
  static Counts expected(const BatchWrite& batch, Inserts inserts, Changes changes = Changes::kHere);

  // After a unique violation: one row that says whether the position is where the batch begins, and whether rows or
  // history moved, so that a new look at them helps.
  PgCommand moved(const RecorderSelf& self, const BatchWrite& batch) const;

 private:
  struct Updates {
    std::vector<const RunChange*> steps, ends, others;
  };
  Updates updates_of(const BatchWrite& batch, std::string_view self) const;
  std::string position_sql(PgCommand& command, const RecorderSelf& self, const BatchWrite& batch) const;
  std::string letters_sql(PgCommand& command, const std::string& self, const BatchWrite& batch) const;
  std::string retried_sql(PgCommand& command, const std::string& self, const BatchWrite& batch) const;
  std::string pruned_sql(PgCommand& command, const BatchWrite& batch) const;
  std::string ledger_sql(PgCommand& command, const RecorderSelf& self, const BatchWrite& batch) const;

  std::string positions_, recorders_, dead_letters_, runs_, events_, pruned_;  // quoted names
  std::string age_;
  struct RowSql {
    PgRowSql insert, update;
  };
  static RowSql row_sql(const PgSchema& schema, std::span<const RunColumn> columns);
  RowSql plain_rows_;  // leave the optional columns alone: what most batches need, and cheaper
  RowSql all_rows_;
  PgUpdates updates_;
  std::string insert_guard_;
  std::string update_guard_;
  PgRowSql beats_;
  PgRowSql history_;
};

}  // namespace run_recorder
