// The updates that nearly all events of a run under way are: what a step writes, and what an end does. Their values
// go in arrays, one a column, of which the server makes rows in half the time that it takes for JSON records; what
// writes other columns too goes as such (pg_row_sql.h). For the PostgreSQL adapter's files. Pure, thread-safe.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "store/pg_command.h"
#include "store/pg_schema.h"
#include "store/store.h"

namespace run_recorder {

enum class UpdateKind {
  kStep,   // writes only the status, and who sent what when
  kEnd,    // the outcome too
  kOther,  // other columns, or a row that has not all of its texts
};

class PgUpdates {
 public:
  explicit PgUpdates(const PgSchema& schema);

  // Of a change of an existing row by this recorder.
  UpdateKind kind_of(const RunChange& change, std::string_view recorder) const;
  // The statement for changes of one kind, kStep or kEnd, behind which a RETURNING may stand. They are in the order
  // in which their rows are to be locked. $1 is the recorder. `guard` is PgBatch's, of r and c with c.i, c.a, c.s,
  // c.ba.
  std::string sql(PgCommand& command, UpdateKind kind, std::span<const RunChange* const> changes,
                  std::string_view guard) const;

 private:
  bool possible_ = false;
  bool zoned_ = false;
  std::string head_, step_sets_, end_sets_;
  std::string status_cast_;
};

}  // namespace run_recorder
