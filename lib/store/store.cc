// Which adapter a url means.
#include "store/store.h"

#include "base/url.h"
#include "store/migrations.h"
#include "store/pg_migrate.h"
#include "store/pg_store.h"
#include "store/sqlite_migrate.h"
#include "store/sqlite_store.h"

namespace run_recorder {

namespace {

Error no_kind() {
  return Error{ErrorKind::kInvalid, "invalid database url: must be sqlite:PATH or a libpq URI (postgresql://…)"};
}

}  // namespace

Result<std::unique_ptr<Store>> open_store(const StoreOptions& options) {
  const auto kind = database_kind(options.url);
  if (!kind) return no_kind();
  switch (*kind) {
    case DatabaseKind::kSqlite:
      return open_sqlite_store(options);
    case DatabaseKind::kPostgres:
      return open_pg_store(options);
  }
  return no_kind();
}

Result<MigrationReport> migrate(const StoreOptions& options, bool verify_only) {
  const auto kind = database_kind(options.url);
  if (!kind) return no_kind();
  switch (*kind) {
    case DatabaseKind::kSqlite:
      return migrate_sqlite(options, verify_only);
    case DatabaseKind::kPostgres:
      return migrate_pg(options, verify_only ? PgMigration::kVerifyOnly : PgMigration::kAll);
  }
  return no_kind();
}

Result<MigrationReport> migrate_tables(const StoreOptions& options) {
  const bool postgres = database_kind(options.url) == DatabaseKind::kPostgres;
  return postgres ? migrate_pg(options, PgMigration::kTables) : migrate(options, false);
}

std::string migration_sql(const StoreOptions& options) {
  const bool sqlite = database_kind(options.url) == DatabaseKind::kSqlite;
  return printed_migrations(sqlite ? sqlite_migrations() : postgresql_migrations(), options.table_prefix);
}

}  // namespace run_recorder
