// Row level security as it concerns a reader: rows that a policy hides seem absent, and decisions on that would be
// wrong. For one thread at a time, as the connection.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "database/pg_connection.h"

namespace run_recorder {

// Whether a policy may keep rows of the table from this role in one of the commands, given as pg_policy names them in
// an array: "{r}" reads, "{r,w}" also updates, "d" deletes. A policy that shows every row (USING (true)) hides
// none, whatever it refuses to take in. table: quoted, with its schema where it is not in the search path; one that
// is not there hides nothing. Errors as those of exec().
Result<bool> policies_may_hide_rows(PgConnection& connection, const std::string& table, std::string_view commands);

// What to do about it, for an error message.
std::string advice_for_hidden_rows(std::string_view table);

}  // namespace run_recorder
