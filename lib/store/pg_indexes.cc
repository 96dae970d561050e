#include "store/pg_indexes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "store/pg_rows.h"

namespace run_recorder {
namespace {

// A unique index that is valid and takes in every row that can be in the way: of these columns, by name, and of no
// other rows than those of the predicate ('' where it has none).
constexpr const char* kUniqueOn =
    "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid "
    "AND i.indisready AND i.indimmediate AND i.indexprs IS NULL "
    "AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = $3) "
    "AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM generate_series(0, i.indnkeyatts - 1) k "
    "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]) = $2::text[])";

constexpr const char* kValidByName =
    "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid AND indisready)";

// A building that waits waits as any backend does, and pg_blocking_pids() says for whom: a transaction that writes
// the table, or one whose snapshot is older. What drops an index has no row of progress; it is known by its words.
constexpr const char* kHoldUpIndexes =
    "WITH builder AS (SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database() "
    "AND relid IN (to_regclass($1), to_regclass($2)) UNION SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() "
    "AND query ~ '^(CREATE|DROP) .*INDEX CONCURRENTLY' AND strpos(query, $3) > 0) "
    "SELECT DISTINCT h.pid FROM builder, unnest(pg_blocking_pids(builder.pid)) h (pid) "
    "WHERE h.pid NOT IN (SELECT pid FROM builder)";
constexpr const char* kUseTables =
    "SELECT DISTINCT l.pid FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.relation IN (to_regclass($1), to_regclass($2)) AND strpos($3, '\"') > 0 "
    "AND l.pid IS DISTINCT FROM pg_backend_pid()";

// The oldest first: the one that is most likely forgotten.
constexpr std::string_view kInWords =
    "SELECT h.pid, a.application_name, a.usename, a.state, to_char(coalesce(a.xact_start, a.query_start) AT TIME "
    "ZONE "
    "'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM ({}) h LEFT JOIN pg_stat_activity a ON a.pid = h.pid "
    "ORDER BY a.xact_start NULLS LAST LIMIT 3";

std::string table_name(std::string_view prefix, std::string_view name) {
  return fmt::format("\"{}{}\"", prefix, name);
}

std::string holder_in_words(PgFields fields) {
  const std::int64_t pid = fields.integer();
  if (pid == 0) return "a prepared transaction (SELECT * FROM pg_prepared_xacts)";
  const std::string application = fields.text();
  const std::string user = fields.text();
  const std::string state = fields.text();
  const std::string since = fields.text();
  std::string words = fmt::format("pid {}", pid);
  if (!user.empty()) words += fmt::format(" of user {}", user);
  if (!application.empty()) words += fmt::format(" (application {})", application);
  if (!state.empty()) words += ", " + state;
  if (!since.empty()) words += " in a transaction since " + since;
  return words;
}

Result<std::string> in_words(PgConnection& connection, std::string_view prefix, const char* pids) {
  const auto rows =
      connection.exec(fmt::format(kInWords, pids),
                      {table_name(prefix, "runs"), table_name(prefix, "run_events"), fmt::format("\"{}run", prefix)});
  if (!rows) return rows.error();
  std::string words;
  for (const auto& row : *rows) words += (words.empty() ? "" : "; ") + holder_in_words(PgFields(row));
  return words;
}

Result<bool> is_true(PgConnection& connection, const char* question, std::initializer_list<PgParam> params) {
  const auto rows = connection.exec(question, params);
  if (!rows) return rows.error();
  return PgFields((*rows)[0]).boolean();
}

// What must not come twice in the history, and what helps where it does: nothing of it removes an entry.
struct Uniqueness {
  std::string_view index;  // the name's end
  std::string_view columns;
  std::string_view sorted;  // as an array, by name
  std::string_view predicate;
  std::string_view what;
  std::string_view repair;
};
constexpr std::string_view kEventPredicate = "(event_id IS NOT NULL)";
constexpr std::array kUniquenesses{
    Uniqueness{
        "run_events_event", "run_id, event_id", "{event_id,run_id}", kEventPredicate, "event ids",
        "keep each event's first entry and take the id from the others: UPDATE {0} h SET event_id = NULL WHERE "
        "EXISTS (SELECT 1 FROM {0} f WHERE f.run_id = h.run_id AND f.event_id = h.event_id AND f.seq < h.seq)"},
    Uniqueness{"run_events_seq", "run_id, seq", "{run_id,seq}", "", "places of a run's history",
               "renumber each run's entries: UPDATE {0} h SET seq = n.seq FROM (SELECT ctid AS at, row_number() OVER "
               "(PARTITION BY run_id ORDER BY seq, inserted_at) AS seq FROM {0}) n WHERE h.ctid = n.at AND h.seq <> "
               "n.seq"},
    Uniqueness{"run_events_id", "id", "{id}", "", "ids of entries",
               "give each but the first a new one: UPDATE {0} h SET id = DEFAULT WHERE EXISTS (SELECT 1 FROM {0} f "
               "WHERE f.id = h.id AND (f.run_id, f.seq) < (h.run_id, h.seq))"},
};

const Uniqueness* uniqueness_of(std::string_view prefix, const PgIndex& index) {
  const auto found = std::ranges::find_if(kUniquenesses, [&](const Uniqueness& uniqueness) {
    return index.name == table_name(prefix, uniqueness.index);
  });
  return found == kUniquenesses.end() ? nullptr : &*found;
}

Result<bool> is_valid(PgConnection& connection, std::string_view prefix, const PgIndex& index) {
  const auto by_name = is_true(connection, kValidByName, {index.name});
  const Uniqueness* unique = uniqueness_of(prefix, index);
  if (!by_name || *by_name || !unique) return by_name;
  // An application's own does as well.
  return is_true(connection, kUniqueOn, {table_name(prefix, "run_events"), unique->sorted, unique->predicate});
}

std::vector<PgIndex> wanted_indexes(std::string_view prefix) {
  std::vector<PgIndex> wanted;
  for (const Migration& migration : postgresql_migrations()) {
    if (!migration.each_by_itself) continue;
    for (std::string& statement : statements_of(with_prefix(migration.sql, prefix))) {
      const std::size_t begin = statement.find('"');
      PgIndex index{&migration, statement.substr(begin, statement.find('"', begin + 1) + 1 - begin), {}};
      index.sql = std::move(statement);
      wanted.push_back(std::move(index));
    }
  }
  return wanted;
}

}  // namespace

Result<PgIndexes> look_at_indexes(PgConnection& connection, std::string_view prefix) {
  PgIndexes found;
  for (PgIndex& index : wanted_indexes(prefix)) {
    const auto there = is_valid(connection, prefix, index);
    if (!there) return there.error();
    if (!*there) found.missing.push_back(std::move(index));
  }
  // The last question: an index may be finished between two of them, and where none is missing this one is not
  // either.
  const std::string events = table_name(prefix, "run_events");
  const auto unique = is_true(connection, kUniqueOn, {events, "{event_id,run_id}", kEventPredicate});
  if (!unique) return unique.error();
  found.events_unique = *unique;
  return found;
}

Result<std::string> who_holds_up_indexes(PgConnection& connection, std::string_view prefix) {
  return in_words(connection, prefix, kHoldUpIndexes);
}

Result<std::string> who_uses_tables(PgConnection& connection, std::string_view prefix) {
  return in_words(connection, prefix, kUseTables);
}

Result<std::string> doubles_in_the_way(PgConnection& connection, std::string_view prefix, const PgIndex& index) {
  const Uniqueness* unique = uniqueness_of(prefix, index);
  if (!unique) return std::string();
  const std::string table = table_name(prefix, "run_events");
  const std::string list =
      fmt::format("SELECT {0}, count(*) FROM {1}{2} GROUP BY {0} HAVING count(*) > 1", unique->columns, table,
                  unique->predicate.empty() ? "" : fmt::format(" WHERE {}", unique->predicate));
  const auto rows = connection.exec(fmt::format(
      "WITH doubles AS ({}) SELECT (SELECT count(*) FROM doubles), concat_ws(', ', {}), count FROM doubles "
      "LIMIT 1",
      list, unique->columns));
  if (!rows) return rows.error();
  if (rows->empty()) return std::string();
  PgFields fields((*rows)[0]);
  const std::int64_t count = fields.integer();
  const std::string example = fields.text();
  return fmt::format(
      "the history {} holds {} {} more than once, for example ({})=({}) {} times, and the unique index "
      "{} cannot be built; list them: {}; {}",
      table, count, unique->what, unique->columns, example, fields.integer(), index.name, list,
      fmt::format(fmt::runtime(unique->repair), table));
}

std::string without_concurrently(std::string sql) {
  constexpr std::string_view kWord = " CONCURRENTLY";
  if (const std::size_t at = sql.find(kWord); at != std::string::npos) sql.erase(at, kWord.size());
  return sql;
}

std::string sql_by_hand(const PgIndex& index) {
  return fmt::format("DROP INDEX CONCURRENTLY IF EXISTS {}; {}", index.name, index.sql);
}

}  // namespace run_recorder
