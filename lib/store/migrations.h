// The numbered SQL files under migrations/, compiled in, for both databases. Pure, thread-safe.
//
// A file begins with comment lines; among them "-- oldest daemon: 1.2.3" names the oldest version that may still
// write once it is applied, and "-- each statement by itself" says that its statements run outside of a transaction
// (they build indexes concurrently). {{prefix}} stands for the table prefix, inside of quoted names only. A statement
// ends with a semicolon at the end of a line.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace run_recorder {

struct Migration {
  int version = 0;                 // the file's number; see docs/decisions/0010-numbers-of-migrations.md
  std::string_view name;           // "0001_tables"
  std::string_view sql;            // the whole file
  std::string_view oldest_daemon;  // "0.1.0"
  bool each_by_itself = false;
};

// In the order of their numbers.
std::span<const Migration> postgresql_migrations();
std::span<const Migration> sqlite_migrations();

// What the names of our tables may begin with: letters, digits and underscores, at most 30, not beginning with a
// digit; may be empty. kInvalid says so.
Result<void> check_table_prefix(std::string_view prefix);
// What daemons that migrate the same tables in PostgreSQL hash for their advisory lock.
std::string lock_of_migrations(std::string_view prefix);
std::string with_prefix(std::string_view sql, std::string_view prefix);
// The statements of a script, without comment lines.
std::vector<std::string> statements_of(std::string_view sql);
// All files, one after the other with their names, with the prefix put in and what records them: for people, who can
// also run it by hand.
std::string printed_migrations(std::span<const Migration> migrations, std::string_view prefix);

// Versions as "1.10.2" compared by their numbers; a missing one counts as 0.
bool version_less(std::string_view a, std::string_view b);

// Whether this daemon may work with a database whose newest migration is `version`, applied by a newer daemon
// perhaps. kRefused names both versions and what to do.
Result<void> check_schema_age(std::span<const Migration> migrations, int version, std::string_view oldest_daemon);

}  // namespace run_recorder
