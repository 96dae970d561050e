// The indexes that are built beside the writers (migrations whose statements run outside a transaction): which of
// them are valid, who holds their building up, and the building. One of them keeps an event's id from coming twice in
// a run; until it is valid nothing but a look at the history does. For the PostgreSQL adapter's files; blocking, on
// the connection's thread. Errors as those of PgConnection::exec().
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "database/pg_connection.h"
#include "store/migrations.h"

namespace run_recorder {

struct PgIndex {
  const Migration* migration = nullptr;
  std::string name;  // quoted
  std::string sql;   // CREATE … CONCURRENTLY …
};

struct PgIndexes {
  bool events_unique = false;    // a valid unique index of (run_id, event_id), whatever its name
  std::vector<PgIndex> missing;  // not there, or not valid
};
Result<PgIndexes> look_at_indexes(PgConnection& connection, std::string_view prefix);

// Who a building under way waits for, in words; empty: nobody, or nothing is being built.
Result<std::string> who_holds_up_indexes(PgConnection& connection, std::string_view prefix);
// Who uses runs or its history now, in words; empty: nobody else. For whoever could not lock them.
Result<std::string> who_uses_tables(PgConnection& connection, std::string_view prefix);

// The entries that keep a unique index from being built: how many, an example, the query that lists them and what
// helps. Empty: there are none, or the index is not unique. It reads the whole history.
Result<std::string> doubles_in_the_way(PgConnection& connection, std::string_view prefix, const PgIndex& index);

// The statements that build an index by hand, one that was interrupted and is in the way dropped first.
std::string sql_by_hand(const PgIndex& index);

// For a table that nobody uses, in a transaction.
std::string without_concurrently(std::string sql);

}  // namespace run_recorder
