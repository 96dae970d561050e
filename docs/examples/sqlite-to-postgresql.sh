#!/usr/bin/env bash
# Copies what run-recorderd wrote into SQLite to PostgreSQL: runs, history, passes, dead letters, and where the recorder
# stands, so that the daemon goes on with its spool as if nothing had been. All or nothing: one transaction.
#
# usage: sqlite-to-postgresql.sh SQLITE_FILE POSTGRESQL_URL [TABLE_PREFIX]
#
# Before: stop the daemon, `run-recorderd --drain`, and make the tables with
# `run-recorderd --migrate --database-url POSTGRESQL_URL`. Needs sqlite3 and psql.
set -euo pipefail

file=${1:?usage: sqlite-to-postgresql.sh SQLITE_FILE POSTGRESQL_URL [TABLE_PREFIX]}
url=${2:?usage: sqlite-to-postgresql.sh SQLITE_FILE POSTGRESQL_URL [TABLE_PREFIX]}
prefix=${3-council_ex_}
[ -s "$file" ] || {
  printf 'there is no SQLite file %s\n' "$file" >&2
  exit 1
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
query() { sqlite3 -batch -readonly -cmd '.timeout 5000' "$file" "$@"; }

# Ids of history and dead letters are PostgreSQL's own to give; bytes go as hexadecimal digits.
for table in runs run_events reconciliations recorders positions dead_letters; do
  columns=$(query "SELECT group_concat('\"' || name || '\"') FROM pragma_table_info('$prefix$table') WHERE name <> 'id'
    OR '$table' = 'recorders'")
  values=$(query "SELECT group_concat(CASE WHEN type = 'BLOB' THEN '''\\x'' || hex(\"' || name || '\")'
    ELSE '\"' || name || '\"' END) FROM pragma_table_info('$prefix$table') WHERE name <> 'id' OR '$table' = 'recorders'")
  [ -n "$columns" ] || {
    printf '%s has no table %s%s\n' "$file" "$prefix" "$table" >&2
    exit 1
  }
  order=1
  [ "$table" != run_events ] || order=id
  query -csv -newline $'\n' "SELECT $values FROM \"$prefix$table\" ORDER BY $order" >"$folder/$table.csv"
  printf '\\copy "%s%s" (%s) FROM '"'%s/%s.csv'"' WITH (FORMAT csv)\n' "$prefix" "$table" "$columns" "$folder" "$table"
done >"$folder/copy.sql"

psql "$url" --no-psqlrc --quiet --single-transaction -v ON_ERROR_STOP=1 -f "$folder/copy.sql"
printf 'copied %s runs\n' "$(query "SELECT count(*) FROM \"${prefix}runs\"")"
