// One transaction of the recorder as one statement: rows, history, dead letters, ledger and position are parts of it,
// each fed by jsonb_to_recordset from one JSON parameter, which measured as the fastest statement for it. The parts
// count what they did, and the caller compares. In a large batch the new rows and the history have been copied before
// (pg_copy.h). For the PostgreSQL adapter's files; for one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "database/pg_connection.h"
#include "store/pg_schema.h"
#include "store/store.h"

namespace run_recorder {

struct PgCommand {
  std::string sql;
  std::vector<PgParam> params;
  // Adds a parameter and returns how SQL names it.
  std::string param(PgParam value, std::string_view type);
};

class PgBatch {
 public:
  explicit PgBatch(const PgSchema& schema);

  // How the new rows and the history get into the tables.
  enum class Inserts {
    kHere,    // by this statement
    kCopied,  // before it, in its transaction
  };
  // Its result is one row, the counts in this order.
  PgCommand write(const RecorderSelf& self, const BatchWrite& batch, Inserts inserts) const;
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
  static Counts expected(const BatchWrite& batch, Inserts inserts);

  // Whether a row of this batch has a value for the columns that most runs never fill: queue, job_id, expires_in,
  // usage, progress. They are never emptied once they are filled.
  static bool fills_optional_columns(const BatchWrite& batch);

  // After a unique violation: one row that says whether the position is where the batch begins, and whether rows or
  // history moved, so that a new look at them helps.
  PgCommand moved(const RecorderSelf& self, const BatchWrite& batch) const;

  // What a new row must have beside our own columns, where an application made the table: an id that the table does
  // not make by itself, and the history's updated_at. Names and values, each followed by ", ".
  static std::string filled_columns(const PgSchema& schema, std::string_view table);
  static std::string filled_values(const PgSchema& schema, std::string_view table, std::string_view updated_at = {});
  // The expression of a new row's id where the table does not make it by itself; else empty.
  static std::string_view new_id(const PgSchema& schema, std::string_view table);
  static bool has_updated_at(const PgSchema& schema, std::string_view table);  // beside our own columns

 private:
  std::string position_sql(PgCommand& command, const RecorderSelf& self, const BatchWrite& batch) const;
  std::string letters_sql(PgCommand& command, const std::string& self, const BatchWrite& batch) const;
  std::string retried_sql(PgCommand& command, const std::string& self, const BatchWrite& batch) const;
  std::string pruned_sql(PgCommand& command, const BatchWrite& batch) const;
  std::string ledger_sql(PgCommand& command, const RecorderSelf& self, const BatchWrite& batch) const;

  std::string positions_, recorders_, dead_letters_, runs_, events_, pruned_;  // quoted names
  // The statements of rows; each ends where the parameter follows, and goes on with its record.
  struct RowSql {
    std::string insert;         // INSERT INTO runs … FROM jsonb_to_recordset(
    std::string insert_record;  // ) AS c (…)
    std::string update;
    std::string update_record;
  };
  static RowSql row_sql(const PgSchema& schema, bool optional_columns);
  RowSql plain_rows_;  // leave the optional columns alone: what most batches need, and cheaper
  RowSql all_rows_;
  std::string insert_guard_;
  std::string update_guard_;
  std::string beats_;
  std::string beats_record_;
  std::string history_;
  std::string history_record_;
};

}  // namespace run_recorder
