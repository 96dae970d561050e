// The statements that write rows and history in PostgreSQL, and the JSON records that feed them, both made from the
// tables of columns.h. A record leaves out the usual value of a column, the statement puts it in again. For the
// PostgreSQL adapter's files. Pure, thread-safe.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/columns.h"
#include "store/pg_rows.h"
#include "store/pg_schema.h"
#include "store/store.h"

namespace run_recorder {

enum class RowSource {
  kEvents,  // the times of the clock are the database's, $1 is the recorder that commits
  kMoved,   // a record has all of them
};

// A statement's two parts: the JSON parameter stands between them.
struct PgRowSql {
  std::string head;    // INSERT INTO … SELECT … FROM jsonb_to_recordset(
  std::string record;  // ) AS c (…)
  std::string with(std::string_view parameter) const;
};
PgRowSql insert_runs_sql(const PgSchema& schema, std::span<const RunColumn> columns, RowSource source);
PgRowSql insert_history_sql(const PgSchema& schema, RowSource source);
// Of runs as r. A record has also a, the version that the decision was made from.
PgRowSql update_runs_sql(const PgSchema& schema, std::span<const RunColumn> columns);

// Whether a row of this batch has a value for an optional column. They are never emptied once they are filled.
bool fills_optional_columns(const BatchWrite& batch);
// The new rows of a batch, or the changed ones, by run_id, so that daemons that meet in the same rows lock them in
// the same order.
std::vector<const RunChange*> changes_of(const BatchWrite& batch, bool insert);
// What the insert, or the update, of them takes. self: $1. Empty: there are none.
std::string runs_json(const BatchWrite& batch, bool insert, std::string_view self);
std::string changes_json(std::span<const RunChange* const> changes, std::string_view self);  // in the order given
std::string history_json(std::span<const HistoryEntry> history);
// What a move takes: of a row, of entries, and of rows with their histories, by run_id as above.
std::string moved_run_json(const Run& run);
std::string moved_history_json(std::span<const StoredEvent> history);
struct MovedJson {
  std::string runs, history;
};
MovedJson moved_json(std::span<const MovedRun> runs);

// What a new row must have beside our own columns, where an application made the table: an id that the table does
// not make by itself, and the history's updated_at. Names and values, each followed by ", ".
std::string filled_columns(const PgSchema& schema, std::string_view table);
std::string filled_values(const PgSchema& schema, std::string_view table, std::string_view updated_at = {});
// The expression of a new row's id where the table does not make it by itself; else empty.
std::string_view new_id(const PgSchema& schema, std::string_view table);
bool has_updated_at(const PgSchema& schema, std::string_view table);  // beside our own columns

}  // namespace run_recorder
