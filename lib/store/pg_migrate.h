// The schema of the PostgreSQL adapter: brought up to date under a lock, or only looked at.
#pragma once

#include "store/store.h"

namespace run_recorder {

// See migrate(). Each migration has a transaction of its own under an advisory lock that ends with it, which also
// works through a pooler. Indexes of tables that have rows already are built concurrently by one daemon at a time;
// the others do not wait for them.
Result<MigrationReport> migrate_pg(const StoreOptions& options, bool verify_only);

}  // namespace run_recorder
