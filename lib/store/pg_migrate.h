// The schema of the PostgreSQL adapter: brought up to date under a lock, or only looked at. Blocking; safe from any
// thread.
#pragma once

#include "store/store.h"

namespace run_recorder {

enum class PgMigration {
  kVerifyOnly,
  kTables,  // without the indexes of tables that have rows
  kAll,
};
// See migrate() and migrate_tables(). Each migration has a transaction of its own under an advisory lock that ends
// with it, which also works through a pooler.
Result<MigrationReport> migrate_pg(const StoreOptions& options, PgMigration how);

}  // namespace run_recorder
