// What the tables of one PostgreSQL database look like: whether this daemon can work with them, and the types that
// SQL has to be written for, because a runs table that CouncilEx made keeps its own. For the PostgreSQL adapter's
// files; read_pg_schema() blocks and is for the connection's thread, all else is pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "database/pg_connection.h"

namespace run_recorder {

struct PgColumn {
  std::string type;       // as SQL names it, with its modifier: "character varying(255)"
  std::string base;       // without modifier and domain: "varchar"
  bool required = false;  // NOT NULL
  bool given = false;     // by a default or as an identity, where a statement does not mention it
};

struct PgTable {
  bool exists = false;
  char kind = 'r';  // pg_class.relkind
  bool row_security = false;
  bool hides_rows = false;  // a policy may, from this role
  std::string schema;
  std::string missing_rights;  // as "INSERT, UPDATE"; empty: none
  std::map<std::string, PgColumn, std::less<>> columns;
};

struct PgSchema {
  std::string prefix;
  std::string encoding;
  int server_version = 0;
  std::set<int> applied;                               // the numbers of the migrations
  std::string oldest_daemon;                           // that may still write beside the newest of them
  std::map<std::string, PgTable, std::less<>> tables;  // by name without prefix
  bool run_id_unique = false;                          // an index of runs makes it so
  bool may_create = false;                             // this role may make tables in the first schema of its path

  int version() const { return applied.empty() ? 0 : *applied.rbegin(); }
  // The quoted name.
  std::string table(std::string_view name) const;
  const PgColumn& column(std::string_view table, std::string_view name) const;
  // For a column of time: the transaction's time, and the column as an instant and as RFC 3339 text in UTC, whatever
  // the session's time zone. `alias` is the table's in the statement.
  std::string now_for(std::string_view table, std::string_view name) const;
  std::string instant(std::string_view table, std::string_view name, std::string_view alias) const;
  std::string time_text(std::string_view table, std::string_view name, std::string_view alias) const;
};

// SQL that makes RFC 3339 text in UTC of an expression with a time zone.
std::string utc_text(std::string_view instant);

// SQL for the microseconds since 1970 of a finite time, which takes a fraction of what its text does. Exact until
// 2041, and the same number for the same time after that.
std::string microseconds_of(std::string_view time);

// Reads the catalog. Errors: kUnavailable, kRefused (the server is too old or not in UTF-8, reading is not
// permitted).
Result<PgSchema> read_pg_schema(PgConnection& connection, std::string_view prefix);

// What keeps this daemon from taking over tables that are there already, in words: views, lacking columns, wrong
// types. What migrations can add does not count. Empty: nothing.
std::vector<std::string> obstacles(const PgSchema& schema);
// kRefused where this daemon cannot work with the tables as they are, kNotFound where migrations are missing.
Result<void> verify(const PgSchema& schema);

// A newer daemon may migrate beside one that works. The two columns of this select, of no table, are the newest
// migration's version and the oldest daemon beside it; check_age() is of them: kRefused where this daemon is older.
std::string age_select(const PgSchema& schema);
Result<void> check_age(std::int64_t version, std::string_view oldest_daemon);

// An error at opening or migrating: permission denied, a missing schema and the like are the database refusing this
// daemon, not the database being away.
Error at_opening(Error error);

}  // namespace run_recorder
