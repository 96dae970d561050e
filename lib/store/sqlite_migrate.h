// The schema of the SQLite adapter: brought up to date, or only looked at. For the adapter and open_store. Blocking;
// safe from any thread, a connection on one at a time.
#pragma once

#include <memory>
#include <string_view>

#include "database/sqlite.h"
#include "store/sqlite_rows.h"
#include "store/store.h"

namespace run_recorder {

// See migrate().
Result<MigrationReport> migrate_sqlite(const StoreOptions& options, bool verify_only);

Result<SqliteFill> columns_to_fill(SqliteConnection& connection, std::string_view prefix);

// A connection to a file whose schema fits; see open_store().
Result<std::unique_ptr<SqliteConnection>> open_sqlite_with_schema(const StoreOptions& options);

}  // namespace run_recorder
