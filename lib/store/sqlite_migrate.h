// The schema of the SQLite adapter: brought up to date, or only looked at. For the adapter and open_store.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "database/sqlite.h"
#include "store/store.h"

namespace run_recorder {

// See migrate().
Result<MigrationReport> migrate_sqlite(const StoreOptions& options, bool verify_only);

// What new rows must have beside our own columns, where an application made the tables: a key that the database does
// not make by itself, and the history's updated_at. Names, and expressions in which {{now}} stands for the row's
// inserted_at; each ends with ", " or is empty.
struct FilledColumns {
  std::string columns;
  std::string values;
};
struct SqliteFill {
  FilledColumns runs, run_events;
};
Result<SqliteFill> columns_to_fill(SqliteConnection& connection, std::string_view prefix);

// A connection to a file whose schema fits; see open_store().
Result<std::unique_ptr<SqliteConnection>> open_sqlite_with_schema(const StoreOptions& options);

}  // namespace run_recorder
