#include "store/sqlite_migrate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/url.h"
#include "store/columns.h"
#include "store/migrations.h"

namespace run_recorder {

namespace {

struct Column {
  std::string name;
  std::string type;
  bool not_null = false;
  std::optional<std::string> default_value;
  bool key = false;
};

struct SchemaAge {
  int version = 0;  // 0: none of ours
  std::string oldest_daemon;
};

// A table that an application's own migration may have made, and what it must have by itself. All others of its
// columns are the recorder's own, and added.
struct SharedTable {
  std::string_view name;
  std::vector<std::string_view> needed;
};
template <class Column>
std::vector<std::string_view> contract_of(std::span<const Column> columns) {
  std::vector<std::string_view> names;
  for (const Column& column : columns) {
    if (column.owner == ColumnOwner::kContract) names.push_back(column.name);
  }
  return names;
}
const std::vector<SharedTable>& shared_tables() {
  static const std::vector<SharedTable> tables{{"runs", contract_of(run_columns())},
                                               {"run_events", contract_of(history_columns())}};
  return tables;
}
// Of the history: our own has none, Ecto's timestamps() make one that must be given.
constexpr std::string_view kUpdatedAt = "updated_at";
constexpr std::array<std::string_view, 9> kOwnTables{"reconciliations", "recorders",    "positions",
                                                     "dead_letters",    "leases",       "pruned",
                                                     "findings",        "expectations", "recorder_schema"};

Error refused(const SqliteConnection& connection, std::string_view what) {
  return Error{ErrorKind::kRefused, fmt::format("SQLite file {}: {}", connection.path(), what)};
}

// Runs a query for its rows, texts by value: a look at the schema, never at much.
Result<std::vector<std::vector<std::optional<std::string>>>> look(SqliteConnection& connection, std::string_view sql,
                                                                  std::string_view parameter, int columns) {
  auto statement = connection.prepare(sql);
  if (!statement) return statement.error();
  SqliteRows rows = statement->rows(parameter);
  std::vector<std::vector<std::optional<std::string>>> found;
  while (true) {
    const auto row = rows.next();
    if (!row) return row.error();
    if (!*row) return found;
    auto& texts = found.emplace_back();
    for (int column = 0; column < columns; ++column) texts.push_back(rows.optional_text(column));
  }
}

// Empty where there is no such table.
Result<std::vector<Column>> columns_of(SqliteConnection& connection, const std::string& table) {
  const auto rows =
      look(connection, "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)", table, 5);
  if (!rows) return rows.error();
  std::vector<Column> columns;
  for (const auto& row : *rows) {
    columns.push_back({row[0].value_or(""), row[1].value_or(""), row[2] != "0", row[3], row[4] != "0"});
  }
  return columns;
}

const Column* find_column(const std::vector<Column>& columns, std::string_view name) {
  const auto found = std::find_if(columns.begin(), columns.end(), [name](const Column& c) { return c.name == name; });
  return found == columns.end() ? nullptr : &*found;
}

std::string in_capitals(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return text;
}

// The SQL for a new value of an id; empty where the database makes it: the key is the row's number, or has a default.
// Ecto's binary_id is a UUID, as text or as bytes.
std::string_view new_id(const Column& id) {
  const std::string type = in_capitals(id.type);
  if (id.default_value || type.find("INT") != std::string::npos) return {};
  return type.find("BLOB") != std::string::npos ? "run_recorder_uuid_bytes()" : "run_recorder_uuid()";
}
bool makes_its_own_ids(const Column& id) {
  return id.default_value || (in_capitals(id.type) == "INTEGER" && id.key);
}

Result<SchemaAge> schema_age(SqliteConnection& connection, std::string_view prefix) {
  const std::string table = fmt::format("{}recorder_schema", prefix);
  const auto columns = columns_of(connection, table);
  if (!columns) return columns.error();
  if (columns->empty()) return SchemaAge{};
  const auto rows = look(
      connection,
      fmt::format("SELECT version, oldest_daemon FROM \"{}\" WHERE ?1 = '' ORDER BY version DESC LIMIT 1", table), "",
      2);
  if (!rows) return rows.error();
  if (rows->empty()) return SchemaAge{};
  const auto& row = rows->front();
  return SchemaAge{std::atoi(row[0].value_or("0").c_str()), row[1].value_or("")};
}

// The tables as our own migrations make them, in memory: the one statement of columns, types and defaults is the SQL.
Result<std::unique_ptr<SqliteConnection>> model_of_schema(std::span<const Migration> migrations) {
  auto model = SqliteConnection::open_in_memory();
  if (!model) return model.error();
  for (const Migration& migration : migrations) {
    if (auto done = (*model)->execute(with_prefix(migration.sql, "")); !done) return done.error();
  }
  return model;
}

Result<bool> has_unique_run_id(SqliteConnection& connection, const std::string& table) {
  const auto rows = look(connection,
                         "SELECT 1 FROM pragma_index_list(?1) AS list WHERE list.\"unique\" = 1 AND list.partial = 0 "
                         "AND (SELECT group_concat(name) FROM pragma_index_info(list.name)) = 'run_id'",
                         table, 1);
  if (!rows) return rows.error();
  return !rows->empty();
}

// What keeps an event's id, and a place in a run's history, from coming twice.
struct UniqueIndex {
  std::string_view name;
  std::string_view columns;
  std::string_view predicate;
  std::string_view repair;
};
constexpr std::array kUniqueIndexes{
    UniqueIndex{
        "event", "run_id, event_id", " WHERE event_id IS NOT NULL",
        "keep each event's first entry and take the id from the others: UPDATE \"{0}\" AS h SET event_id = NULL "
        "WHERE EXISTS (SELECT 1 FROM \"{0}\" AS f WHERE f.run_id = h.run_id AND f.event_id = h.event_id AND "
        "f.seq < h.seq)"},
    UniqueIndex{"seq", "run_id, seq", "", "renumber the entries of these runs"},
};

Result<bool> is_there(SqliteConnection& connection, const std::string& table, const UniqueIndex& index) {
  const auto rows = look(connection,
                         fmt::format("SELECT 1 FROM pragma_index_list(?1) AS list WHERE list.\"unique\" = 1 AND "
                                     "(list.partial = 0 OR list.name = '{}_{}') AND (SELECT group_concat(name, ', ') "
                                     "FROM pragma_index_info(list.name)) = '{}'",
                                     table, index.name, index.columns),
                         table, 1);
  if (!rows) return rows.error();
  return !rows->empty();
}

std::string sql_of(const std::string& table, const UniqueIndex& index) {
  return fmt::format("CREATE UNIQUE INDEX IF NOT EXISTS \"{0}_{1}\" ON \"{0}\" ({2}){3}", table, index.name,
                     index.columns, index.predicate);
}

// The entries that keep an index from being made, in words; empty where there are none, or no such table yet.
std::string doubles_in_the_way(SqliteConnection& connection, const std::string& table) {
  for (const UniqueIndex& index : kUniqueIndexes) {
    const std::string list =
        fmt::format("SELECT {0}, count(*) AS times FROM \"{1}\"{2} GROUP BY {0} HAVING count(*) > 1", index.columns,
                    table, index.predicate);
    const auto rows = look(connection,
                           fmt::format("WITH doubles AS ({}) SELECT (SELECT count(*) FROM doubles), {} || '', times "
                                       "FROM doubles WHERE ?1 = '' LIMIT 1",
                                       list, index.columns),
                           "", 4);
    if (!rows || rows->empty()) continue;
    const auto& row = rows->front();
    return fmt::format(
        "the history {} holds {} {} more than once, for example ({})=({}, {}) {} times; list them: {}; {}", table,
        row[0].value_or(""), index.name == "event" ? "event ids" : "places of a run's history", index.columns,
        row[1].value_or(""), row[2].value_or(""), row[3].value_or(""), list,
        fmt::format(fmt::runtime(index.repair), table));
  }
  return {};
}

// Adds the columns that an existing table of an application lacks, before the first migration meets it.
Result<void> take_over(SqliteConnection& connection, std::string_view prefix) {
  auto model = model_of_schema(sqlite_migrations().first(1));
  if (!model) return model.error();
  for (const SharedTable& shared : shared_tables()) {
    const std::string table = fmt::format("{}{}", prefix, shared.name);
    const auto there = columns_of(connection, table);
    if (!there) return there.error();
    if (there->empty()) continue;
    const auto wanted = columns_of(**model, std::string(shared.name));
    if (!wanted) return wanted.error();
    for (const Column& column : *wanted) {
      if (find_column(*there, column.name)) continue;
      std::string sql = fmt::format("ALTER TABLE \"{}\" ADD COLUMN \"{}\" {}", table, column.name, column.type);
      if (column.not_null) sql += " NOT NULL";
      if (column.default_value) sql += " DEFAULT " + *column.default_value;
      if (auto done = connection.execute(sql); !done) return done.error();
    }
  }
  const std::string runs = fmt::format("{}runs", prefix);
  const auto there = columns_of(connection, runs);
  if (!there) return there.error();
  if (there->empty()) return {};
  const auto unique = has_unique_run_id(connection, runs);
  if (!unique) return unique.error();
  if (*unique) return {};
  return connection.execute(fmt::format("CREATE UNIQUE INDEX \"{0}_run_id\" ON \"{0}\" (run_id)", runs));
}

std::string lacks(const std::string& table, const std::vector<std::string_view>& missing) {
  return missing.empty() ? std::string() : fmt::format("table {} lacks: {}", table, fmt::join(missing, ", "));
}

// Columns of others that keep this daemon from writing into a table, in words; empty where none does.
std::string unfit_columns(const std::string& table, const std::vector<Column>& there,
                          const std::vector<Column>& wanted) {
  const bool history = find_column(wanted, "seq") != nullptr;
  for (const Column& column : there) {
    if (column.name == "id") {
      if (makes_its_own_ids(column) || !new_id(column).empty() || (!history && !column.not_null)) continue;
      return fmt::format(
          "table {} must have id INTEGER PRIMARY KEY, or an id of TEXT or BLOB for UUIDs; it has id {}", table,
          column.type);
    }
    if (history && column.name == kUpdatedAt) continue;
    const Column* known = find_column(wanted, column.name);
    if (!known && column.not_null && !column.default_value && !column.key) {
      return fmt::format("table {} has a column {} that is NOT NULL and has no default", table, column.name);
    }
  }
  return {};
}

void add_problem(std::string& problems, const std::string& problem) {
  if (!problem.empty()) problems += (problems.empty() ? "" : "; ") + problem;
}

// What no migration of ours can help, in words: an application's table that lacks what it must have by itself, or has
// what we cannot fill.
Result<std::string> obstacles(SqliteConnection& connection, SqliteConnection& model, std::string_view prefix) {
  std::string problems;
  for (const SharedTable& shared : shared_tables()) {
    const std::string table = fmt::format("{}{}", prefix, shared.name);
    const auto there = columns_of(connection, table);
    if (!there) return there.error();
    if (there->empty()) continue;
    const auto wanted = columns_of(model, std::string(shared.name));
    if (!wanted) return wanted.error();
    std::vector<std::string_view> missing;
    for (const std::string_view name : shared.needed) {
      if (!find_column(*there, name)) missing.push_back(name);
    }
    add_problem(problems, lacks(table, missing));
    add_problem(problems, unfit_columns(table, *there, *wanted));
  }
  return problems;
}

// What is missing in a schema of the right version, in words.
Result<std::string> missing_parts(SqliteConnection& connection, SqliteConnection& model, std::string_view prefix) {
  std::vector<std::string_view> names(kOwnTables.begin(), kOwnTables.end());
  for (const SharedTable& shared : shared_tables()) names.push_back(shared.name);
  std::string problems;
  for (const std::string_view name : names) {
    const std::string table = fmt::format("{}{}", prefix, name);
    const auto there = columns_of(connection, table);
    if (!there) return there.error();
    if (there->empty()) {
      add_problem(problems, fmt::format("there is no table {}", table));
      continue;
    }
    const auto wanted = columns_of(model, std::string(name));
    if (!wanted) return wanted.error();
    std::vector<std::string_view> missing;
    for (const Column& column : *wanted) {
      if (!find_column(*there, column.name)) missing.push_back(column.name);
    }
    add_problem(problems, lacks(table, missing));
  }
  if (!problems.empty()) return problems;
  const std::string runs = fmt::format("{}runs", prefix);
  const auto unique = has_unique_run_id(connection, runs);
  if (!unique) return unique.error();
  return *unique ? std::string() : fmt::format("table {} has no unique index on run_id", runs);
}

Error to_be_migrated(const SqliteConnection& connection, std::string_view what) {
  return Error{ErrorKind::kNotFound, fmt::format("SQLite file {}: {}", connection.path(), what)};
}

// The schema's version, where it fits. kNotFound: migrations are missing.
Result<int> verify(SqliteConnection& connection, std::string_view prefix) {
  auto model = model_of_schema(sqlite_migrations());
  if (!model) return model.error();
  const auto age = schema_age(connection, prefix);
  if (!age) return age.error();
  if (auto fits = check_schema_age(sqlite_migrations(), age->version, age->oldest_daemon); !fits) {
    return refused(connection, fits.error().message);
  }
  const auto problems = obstacles(connection, **model, prefix);
  if (!problems) return problems.error();
  if (!problems->empty()) return refused(connection, *problems);
  if (age->version == 0) {
    return to_be_migrated(
        connection,
        fmt::format("it has no tables {}… of run-recorder; run-recorderd --migrate creates them", prefix));
  }
  if (const int newest = sqlite_migrations().back().version; age->version < newest) {
    return to_be_migrated(
        connection,
        fmt::format("its schema is {}, this daemon needs {}; run-recorderd --migrate brings it up to date",
                    age->version, newest));
  }
  const auto missing = missing_parts(connection, **model, prefix);
  if (!missing) return missing.error();
  if (!missing->empty()) return refused(connection, *missing);
  const std::string events = fmt::format("{}run_events", prefix);
  for (const UniqueIndex& index : kUniqueIndexes) {
    const auto there = is_there(connection, events, index);
    if (!there) return there.error();
    if (*there) continue;
    return to_be_migrated(connection,
                          fmt::format("there is no unique index on ({}) of {}; run-recorderd --migrate creates "
                                      "it, or: {}",
                                      index.columns, events, sql_of(events, index)));
  }
  return age->version;
}

// The column that a statement adds, and its table, as our migrations write that; empty: it adds none.
struct AddedColumn {
  std::string table;
  std::string_view name;
};
std::optional<AddedColumn> added_column(std::string_view statement) {
  constexpr std::string_view kAlter = "ALTER TABLE \"";
  constexpr std::string_view kAdd = "\" ADD COLUMN ";
  const std::size_t add = statement.find(kAdd);
  if (!statement.starts_with(kAlter) || add == std::string_view::npos) return std::nullopt;
  const std::string_view name = statement.substr(add + kAdd.size());
  return AddedColumn{std::string(statement.substr(kAlter.size(), add - kAlter.size())),
                     name.substr(0, name.find(' '))};
}

// SQLite has no ADD COLUMN IF NOT EXISTS, and an application's table may have such a column.
Result<void> run_migration(SqliteConnection& connection, const std::string& sql) {
  for (const std::string& statement : statements_of(sql)) {
    if (const auto added = added_column(statement)) {
      const auto there = columns_of(connection, added->table);
      if (!there) return there.error();
      if (find_column(*there, added->name)) continue;
    }
    if (auto done = connection.execute(statement); !done) return done.error();
  }
  return {};
}

// Inside of a transaction that is rolled back on any error.
Result<std::vector<std::string>> apply_missing(SqliteConnection& connection, std::string_view prefix) {
  const auto age = schema_age(connection, prefix);
  if (!age) return age.error();
  std::vector<std::string> applied;
  if (age->version == 0) {
    if (auto done = take_over(connection, prefix); !done) return done.error();
  }
  for (const Migration& migration : sqlite_migrations()) {
    if (migration.version <= age->version) continue;
    if (auto done = run_migration(connection, with_prefix(migration.sql, prefix)); !done) return done.error();
    auto record = connection.prepare(fmt::format(
        "INSERT INTO \"{}recorder_schema\" (version, name, applied_at, oldest_daemon) VALUES (?1, ?2, ?3, ?4)",
        prefix));
    if (!record) return record.error();
    const auto done = record->execute(migration.version, migration.name, now_utc(), migration.oldest_daemon);
    if (!done) return done.error();
    applied.emplace_back(migration.name);
  }
  const std::string events = fmt::format("{}run_events", prefix);
  for (const UniqueIndex& index : kUniqueIndexes) {
    if (auto done = connection.execute(sql_of(events, index)); !done) return done.error();
  }
  return applied;
}

Result<std::unique_ptr<SqliteConnection>> open_file(const StoreOptions& options, bool create) {
  if (auto fits = check_table_prefix(options.table_prefix); !fits) return fits.error();
  const std::string path = sqlite_path(options.url);
  if (!create && !path.empty() && ::access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
    return Error{ErrorKind::kNotFound,
                 fmt::format("SQLite file {}: no such file; run-recorderd --migrate creates it", path)};
  }
  return SqliteConnection::open({.path = path, .create = create, .read_only = false, .deadline = options.deadline});
}

}  // namespace

Result<MigrationReport> migrate_sqlite(const StoreOptions& options, bool verify_only) {
  auto connection = open_file(options, !verify_only);
  if (!connection) return connection.error();
  const auto current = verify(**connection, options.table_prefix);
  if (current) return MigrationReport{*current, {}, {}};
  if (verify_only || current.error().kind != ErrorKind::kNotFound) return current.error();

  auto transaction = SqliteTransaction::begin(**connection, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  auto applied = apply_missing(**connection, options.table_prefix);
  if (!applied) {
    // What is in an existing table contradicts the schema; its rows are not at fault.
    Error error = applied.error();
    if (error.kind == ErrorKind::kData) {
      const std::string doubles = doubles_in_the_way(**connection, fmt::format("{}run_events", options.table_prefix));
      error = refused(**connection, doubles.empty() ? error.message : doubles);
    }
    return error;
  }
  const auto version = verify(**connection, options.table_prefix);
  if (!version) return version.error();
  if (auto done = transaction->commit(); !done) return done.error();
  return MigrationReport{*version, std::move(*applied), {}};
}

Result<SqliteFill> columns_to_fill(SqliteConnection& connection, std::string_view prefix) {
  SqliteFill fill;
  for (const SharedTable& shared : shared_tables()) {
    const auto columns = columns_of(connection, fmt::format("{}{}", prefix, shared.name));
    if (!columns) return columns.error();
    const bool history = shared.name == "run_events";
    FilledColumns& filled = history ? fill.run_events : fill.runs;
    const Column* id = find_column(*columns, "id");
    if (id && !makes_its_own_ids(*id) && !new_id(*id).empty()) {
      filled.columns += "id, ";
      filled.values += fmt::format("{}, ", new_id(*id));
    }
    if (history && find_column(*columns, kUpdatedAt)) {
      filled.columns += fmt::format("{}, ", kUpdatedAt);
      filled.values += "{{now}}, ";
    }
  }
  return fill;
}

Result<std::unique_ptr<SqliteConnection>> open_sqlite_with_schema(const StoreOptions& options) {
  auto connection = open_file(options, false);
  if (!connection) return connection;
  if (auto fits = verify(**connection, options.table_prefix); !fits) return fits.error();
  return connection;
}

}  // namespace run_recorder
