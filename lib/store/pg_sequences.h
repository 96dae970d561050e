// The sequences that give ids to the history and to dead letters. After a logical switch-over or a copy of the tables
// they are where they began, and give out ids that are taken. For the PostgreSQL adapter's files; blocking, on the
// connection's thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "database/pg_connection.h"
#include "store/pg_schema.h"

namespace run_recorder {

struct PgSequences {
  std::vector<std::string> advanced;  // those that stood behind and were set, in words
  std::vector<std::string> denied;    // those that are behind and that this role may not set
  std::vector<std::string> unseen;    // those that this role may not even look at
};
// Sets those behind the highest id in use, under the lock of the migrations. Only ids with an index to find the
// highest one by are looked at. Outside of a transaction. Errors as those of exec().
Result<PgSequences> advance_pg_sequences(PgConnection& connection, const PgSchema& schema);

}  // namespace run_recorder
