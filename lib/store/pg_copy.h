// The new rows and the history of a batch by COPY, which takes PostgreSQL less time than any statement with
// parameters (see tests/bench/README.md). What has to be guarded and counted is not its: the batch's statement runs
// behind it in the same transaction. For the PostgreSQL adapter's files; for one thread.
#pragma once

#include <string>

#include "database/pg_connection.h"
#include "store/pg_schema.h"
#include "store/store.h"

namespace run_recorder {

class PgCopy {
 public:
  explicit PgCopy(const PgSchema& schema);

  // Whether these tables can be copied into: plain tables without row security, whose ids are made by themselves.
  static bool possible(const PgSchema& schema);

  // In the transaction that is open. Errors as those of PgConnection::exec().
  Result<void> write(PgConnection& connection, const RecorderSelf& self, const BatchWrite& batch,
                     const WritePieces* pieces) const;

 private:
  std::string runs_, events_;  // quoted names
  bool fills_updated_at_;      // of the history
  bool zoned_;                 // all times that are the database's own are kept with a time zone
};

}  // namespace run_recorder
