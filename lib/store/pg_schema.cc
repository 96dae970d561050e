#include "store/pg_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <span>

#include "database/pg_policies.h"
#include "store/columns.h"
#include "store/migrations.h"

namespace run_recorder {
namespace {

constexpr int kOldestServer = 120'000;

struct WantedColumn {
  std::string_view name;
  ColumnKind kind = ColumnKind::kText;
  bool may_be_required = true;  // we always have a value for it
};

// Of the table's columns those that the migrations of an application bring, or those that ours do.
template <class Column>
std::vector<WantedColumn> wanted_of(std::span<const Column> columns, bool contract) {
  std::vector<WantedColumn> wanted;
  for (const Column& column : columns) {
    if ((column.owner == ColumnOwner::kContract) != contract) continue;
    wanted.push_back({column.name, column.kind, !column.nullable});
  }
  return wanted;
}

constexpr std::array kReconciliations{
    WantedColumn{"pass_id"},
    WantedColumn{"recorder"},
    WantedColumn{"trigger"},
    WantedColumn{"started_at", ColumnKind::kTime},
    WantedColumn{"finished_at", ColumnKind::kTime, false},
    WantedColumn{"report", ColumnKind::kJson},
};
constexpr std::array kRecorders{
    WantedColumn{"id"},
    WantedColumn{"host"},
    WantedColumn{"version"},
    WantedColumn{"incarnation"},
    WantedColumn{"last_seen", ColumnKind::kTime},
    WantedColumn{"applied", ColumnKind::kInteger},
    WantedColumn{"duplicate", ColumnKind::kInteger},
    WantedColumn{"dead_letters", ColumnKind::kInteger},
    WantedColumn{"dead_letters_removed", ColumnKind::kInteger},
    WantedColumn{"conflicts", ColumnKind::kInteger},
};
constexpr std::array kPositions{
    WantedColumn{"recorder"},
    WantedColumn{"incarnation"},
    WantedColumn{"applied", ColumnKind::kInteger},
    WantedColumn{"updated_at", ColumnKind::kTime},
};
constexpr std::array kDeadLetters{
    WantedColumn{"id", ColumnKind::kInteger},
    WantedColumn{"recorder"},
    WantedColumn{"run_id"},
    WantedColumn{"type"},
    WantedColumn{"event_id", ColumnKind::kText, false},
    WantedColumn{"record", ColumnKind::kBytes},
    WantedColumn{"line"},
    WantedColumn{"sqlstate"},
    WantedColumn{"reason"},
    WantedColumn{"tries", ColumnKind::kInteger},
    WantedColumn{"received_at", ColumnKind::kTime, false},
    WantedColumn{"inserted_at", ColumnKind::kTime},
};
constexpr std::array kLeases{
    WantedColumn{"name"},
    WantedColumn{"holder"},
    WantedColumn{"expires_at", ColumnKind::kTime},
};
constexpr std::array kPruned{
    WantedColumn{"run_id"},
    WantedColumn{"pruned_at", ColumnKind::kTime},
};
constexpr std::array kExpectations{
    WantedColumn{"name"},
    WantedColumn{"definition"},
    WantedColumn{"since", ColumnKind::kTime},
    WantedColumn{"judged_at", ColumnKind::kTime},
    WantedColumn{"judged_by"},
};
constexpr std::array kFindings{
    WantedColumn{"id", ColumnKind::kInteger},
    WantedColumn{"kind"},
    WantedColumn{"expectation"},
    WantedColumn{"council"},
    WantedColumn{"run_id"},
    WantedColumn{"due_at", ColumnKind::kTime, false},
    WantedColumn{"allowed_ms", ColumnKind::kInteger, false},
    WantedColumn{"opened_at", ColumnKind::kTime},
    WantedColumn{"ended_at", ColumnKind::kTime, false},
    WantedColumn{"ended_by"},
    WantedColumn{"recorder"},
};
constexpr std::array kRecorderSchema{
    WantedColumn{"version", ColumnKind::kInteger},
    WantedColumn{"name"},
    WantedColumn{"oldest_daemon"},
};

struct WantedTable {
  std::string_view name;
  std::span<const WantedColumn> contract;  // an application's own table must have these by itself
  std::span<const WantedColumn> own;
  std::string_view rights;  // as an array of PostgreSQL
};

// The one that says what was applied is read first: what it promises is there when the others are read.
std::span<const WantedTable> wanted_tables() {
  static const auto runs_contract = wanted_of(run_columns(), true);
  static const auto runs_own = wanted_of(run_columns(), false);
  static const auto events_contract = wanted_of(history_columns(), true);
  static const auto events_own = wanted_of(history_columns(), false);
  static const std::array tables{
      WantedTable{"recorder_schema", {}, kRecorderSchema, "{SELECT}"},
      WantedTable{"runs", runs_contract, runs_own, "{SELECT,INSERT,UPDATE}"},
      WantedTable{"run_events", events_contract, events_own, "{SELECT,INSERT}"},
      WantedTable{"reconciliations", {}, kReconciliations, "{SELECT,INSERT,UPDATE}"},
      WantedTable{"recorders", {}, kRecorders, "{SELECT,INSERT,UPDATE}"},
      WantedTable{"positions", {}, kPositions, "{SELECT,INSERT,UPDATE}"},
      WantedTable{"dead_letters", {}, kDeadLetters, "{SELECT,INSERT,DELETE}"},
      WantedTable{"leases", {}, kLeases, "{SELECT,INSERT,UPDATE,DELETE}"},
      WantedTable{"pruned", {}, kPruned, "{SELECT,INSERT,UPDATE,DELETE}"},
      WantedTable{"expectations", {}, kExpectations, "{SELECT,INSERT,UPDATE}"},
      WantedTable{"findings", {}, kFindings, "{SELECT,INSERT,UPDATE}"},
  };
  return tables;
}

constexpr const char* kReadTable =
    "SELECT c.relkind, n.nspname, (SELECT string_agg(p, ', ') FROM unnest($2::text[]) p "
    "WHERE NOT has_table_privilege(c.oid, p)), c.relrowsecurity "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

// A domain counts as the type it stands for. A sequence of a serial column that this role may not use gives nothing.
constexpr const char* kReadColumns =
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod), b.typname, a.attnotnull, "
    "a.attidentity <> '' OR (a.atthasdef AND coalesce(has_sequence_privilege("
    "pg_get_serial_sequence($1, a.attname), 'USAGE'), true)), b.typtype "
    "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
    "JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END "
    "WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";

constexpr const char* kRunIdUnique =
    "SELECT EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = "
    "i.indkey[0] "
    "WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1 "
    "AND i.indpred IS NULL AND a.attname = 'run_id')";

constexpr const char* kMayCreate = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)";

Error refused(std::string message) {
  return Error{ErrorKind::kRefused, std::move(message)};
}

bool fits(ColumnKind kind, std::string_view base) {
  const auto is = [base](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), base) != names.end();
  };
  switch (kind) {
    case ColumnKind::kText:
      // An enum's labels are checked by whoever knows which are needed; a fixed length would add spaces.
      return is({"text", "varchar", "citext", "enum"});
    case ColumnKind::kInteger:
      return is({"int2", "int4", "int8"});
    case ColumnKind::kJson:
      return is({"jsonb", "json"});
    case ColumnKind::kTime:
      return is({"timestamptz", "timestamp"});
    case ColumnKind::kBoolean:
      return is({"bool"});
    case ColumnKind::kBytes:
      return is({"bytea"});
    case ColumnKind::kAny:
      return true;
  }
  return false;
}

std::string_view words_for(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::kText:
      return "text";
    case ColumnKind::kInteger:
      return "an integer";
    case ColumnKind::kJson:
      return "jsonb";
    case ColumnKind::kTime:
      return "timestamptz";
    case ColumnKind::kBoolean:
      return "boolean";
    case ColumnKind::kBytes:
      return "bytea";
    case ColumnKind::kAny:
      break;
  }
  return "anything";
}

// The commands in which a hidden row would be taken for absent, as policies name them.
std::string commands_for(std::string_view rights) {
  std::string commands = "{r";
  if (rights.find("UPDATE") != std::string_view::npos) commands += ",w";
  if (rights.find("DELETE") != std::string_view::npos) commands += ",d";
  return commands + "}";
}

Result<PgTable> read_table(PgConnection& connection, const std::string& name, std::string_view rights) {
  PgTable table;
  const auto found = connection.exec(kReadTable, {name, rights});
  if (!found) return found.error();
  if (found->empty()) return table;
  table.exists = true;
  table.kind = (*found)[0][0].c_str()[0];
  table.schema = (*found)[0][1].c_str();
  table.missing_rights = (*found)[0][2].c_str();
  table.row_security = (*found)[0][3].c_str()[0] == 't';
  if (table.kind != 'r' && table.kind != 'p') return table;
  if (table.row_security) {
    const auto hides = policies_may_hide_rows(connection, name, commands_for(rights));
    if (!hides) return hides.error();
    table.hides_rows = *hides;
  }
  const auto columns = connection.exec(kReadColumns, {name});
  if (!columns) return columns.error();
  const auto is_true = [](const pqxx::field& field) { return field.c_str()[0] == 't'; };
  for (const auto& row : *columns) {
    PgColumn column;
    column.type = row[1].c_str();
    column.base = row[5].c_str()[0] == 'e' ? "enum" : row[2].c_str();
    column.required = is_true(row[3]);
    column.given = is_true(row[4]);
    table.columns.emplace(row[0].c_str(), std::move(column));
  }
  return table;
}

void check_columns(const std::string& name, const PgTable& table, std::span<const WantedColumn> wanted,
                   std::string& missing, std::vector<std::string>& problems) {
  for (const WantedColumn& column : wanted) {
    const auto found = table.columns.find(column.name);
    if (found == table.columns.end()) {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", column.name);
      continue;
    }
    if (!fits(column.kind, found->second.base)) {
      problems.push_back(fmt::format("column {} of {} has type {}, it must be {}", column.name, name,
                                     found->second.type, words_for(column.kind)));
    }
    if (found->second.required && !column.may_be_required) {
      problems.push_back(
          fmt::format("column {0} of {1} is NOT NULL, it must allow NULL: ALTER TABLE {1} ALTER {0} DROP "
                      "NOT NULL",
                      column.name, name));
    }
  }
}

bool is_wanted(const WantedTable& wanted, std::string_view column) {
  const auto named = [column](const WantedColumn& candidate) { return candidate.name == column; };
  return std::any_of(wanted.contract.begin(), wanted.contract.end(), named) ||
         std::any_of(wanted.own.begin(), wanted.own.end(), named);
}

// Columns that nobody gives a value to. An id of type uuid is ours to give, and the history's updated_at, which
// Ecto's timestamps() make.
void check_strangers(const std::string& name, const PgTable& table, const WantedTable& wanted,
                     std::vector<std::string>& problems) {
  for (const auto& [column, facts] : table.columns) {
    const bool id = column == "id" && !wanted.contract.empty();
    const bool updated_at = column == "updated_at" && wanted.name == "run_events";
    const bool ours = id ? facts.base == "uuid" : updated_at && fits(ColumnKind::kTime, facts.base);
    const bool known = ours || (!id && is_wanted(wanted, column));
    if (known || !facts.required || facts.given) continue;
    problems.push_back(
        fmt::format("column {} of {} is NOT NULL and has no default that this role may use", column, name));
  }
}

void check_existing(const PgSchema& schema, const WantedTable& wanted, std::vector<std::string>& problems) {
  const PgTable& table = schema.tables.at(std::string(wanted.name));
  const std::string name = schema.prefix + std::string(wanted.name);
  if (!table.exists) return;
  if (table.kind != 'r' && table.kind != 'p') {
    problems.push_back(fmt::format("{} is not a table", name));
    return;
  }
  std::string missing;
  check_columns(name, table, wanted.contract, missing, problems);
  if (!missing.empty()) problems.push_back(fmt::format("{} lacks the columns {}", name, missing));
  check_strangers(name, table, wanted, problems);
}

Result<void> read_age(PgConnection& connection, PgSchema& schema) {
  const PgTable& table = schema.tables.at("recorder_schema");
  if (!table.exists || !table.columns.contains("version") || !table.columns.contains("oldest_daemon")) return {};
  const auto rows = connection.exec(
      fmt::format("SELECT version, oldest_daemon FROM {} ORDER BY version", schema.table("recorder_schema")));
  if (!rows) return rows.error();
  for (const auto& row : *rows) {
    schema.applied.insert(std::atoi(row[0].c_str()));
    schema.oldest_daemon = row[1].c_str();
  }
  return {};
}

std::string join(const std::vector<std::string>& problems) {
  return fmt::format("{}", fmt::join(problems, "; "));
}

std::string text_of_timestamp(std::string_view timestamp) {
  return fmt::format("to_char({}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", timestamp);
}

}  // namespace

std::string PgSchema::table(std::string_view name) const {
  return fmt::format("\"{}{}\"", prefix, name);
}

const PgColumn& PgSchema::column(std::string_view table, std::string_view name) const {
  return tables.find(table)->second.columns.find(name)->second;
}

std::string PgSchema::now_for(std::string_view table, std::string_view name) const {
  return column(table, name).base == "timestamp" ? "(now() AT TIME ZONE 'UTC')" : "now()";
}

std::string PgSchema::instant(std::string_view table, std::string_view name, std::string_view alias) const {
  const bool zoned = column(table, name).base != "timestamp";
  return fmt::format(fmt::runtime(zoned ? "{}.{}" : "({}.{} AT TIME ZONE 'UTC')"), alias, name);
}

std::string PgSchema::time_text(std::string_view table, std::string_view name, std::string_view alias) const {
  const bool zoned = column(table, name).base != "timestamp";
  return text_of_timestamp(fmt::format("{}.{}{}", alias, name, zoned ? " AT TIME ZONE 'UTC'" : ""));
}

std::string microseconds_of(std::string_view time) {
  return fmt::format("(date_part('epoch', {}) * 1000000)::bigint", time);
}

std::string utc_text(std::string_view instant) {
  return text_of_timestamp(fmt::format("{} AT TIME ZONE 'UTC'", instant));
}

std::string age_select(const PgSchema& schema) {
  const std::string table = schema.table("recorder_schema");
  return fmt::format("(SELECT max(version) FROM {0}), (SELECT oldest_daemon FROM {0} ORDER BY version DESC LIMIT 1)",
                     table);
}

Result<void> check_age(std::int64_t version, std::string_view oldest_daemon) {
  return check_schema_age(postgresql_migrations(), static_cast<int>(version), oldest_daemon);
}

Error at_opening(Error error) {
  const std::string_view state = error.sqlstate;
  // Insufficient privilege, no schema to create in, a name that means something else, an object that is in the way.
  const bool refusal = state == "42501" || state == "3F000" || state == "42809" || state == "42P16" ||
                       state == "42703" || state == "42P07" || state == "42710" || error.kind == ErrorKind::kData;
  if (refusal) error.kind = ErrorKind::kRefused;
  return error;
}

Result<PgSchema> read_pg_schema(PgConnection& connection, std::string_view prefix) {
  PgSchema schema;
  schema.prefix = prefix;
  schema.server_version = connection.server_version();
  if (schema.server_version < kOldestServer) {
    return refused(fmt::format("the server is PostgreSQL {}, 12 or later is needed", schema.server_version / 10'000));
  }
  const auto encoding = connection.exec("SELECT current_setting('server_encoding')");
  if (!encoding) return at_opening(encoding.error());
  schema.encoding = (*encoding)[0][0].c_str();
  if (schema.encoding != "UTF8") {
    return refused(fmt::format("the database has encoding {}, it must have UTF8", schema.encoding));
  }
  for (const WantedTable& wanted : wanted_tables()) {
    auto table = read_table(connection, schema.table(wanted.name), wanted.rights);
    if (!table) return at_opening(table.error());
    schema.tables.emplace(wanted.name, std::move(*table));
    if (&wanted != &wanted_tables().front()) continue;
    if (auto age = read_age(connection, schema); !age) return at_opening(age.error());
  }
  const auto unique = connection.exec(kRunIdUnique, {schema.table("runs")});
  if (!unique) return at_opening(unique.error());
  schema.run_id_unique = (*unique)[0][0].c_str()[0] == 't';
  const auto create = connection.exec(kMayCreate);
  if (!create) return at_opening(create.error());
  schema.may_create = (*create)[0][0].c_str()[0] == 't';
  return schema;
}

std::vector<std::string> obstacles(const PgSchema& schema) {
  std::vector<std::string> problems;
  for (const WantedTable& wanted : wanted_tables()) check_existing(schema, wanted, problems);
  const PgTable& runs = schema.tables.at("runs");
  if (problems.empty() && runs.exists && !schema.run_id_unique) {
    problems.push_back(
        fmt::format("{0}runs has no unique index on run_id: CREATE UNIQUE INDEX CONCURRENTLY ON {0}runs "
                    "(run_id)",
                    schema.prefix));
  }
  return problems;
}

Result<void> verify(const PgSchema& schema) {
  const auto migrations = postgresql_migrations();
  if (auto young = check_schema_age(migrations, schema.version(), schema.oldest_daemon); !young) return young;
  std::vector<std::string> problems = obstacles(schema);
  if (!problems.empty()) return refused(join(problems));
  if (schema.applied.empty() && !schema.may_create) {
    return refused(
        fmt::format("permission denied: the tables {}… do not exist, and this role may not create them; GRANT "
                    "CREATE on the schema, or let another role run run-recorderd --migrate",
                    schema.prefix));
  }
  if (schema.applied.empty()) {
    return Error{ErrorKind::kNotFound,
                 fmt::format("the database has no tables {}… of run-recorder; run-recorderd --migrate creates "
                             "them",
                             schema.prefix)};
  }
  for (const Migration& migration : migrations) {
    // Indexes can wait, and others may be building them.
    if (migration.each_by_itself || schema.applied.contains(migration.version)) continue;
    problems.push_back(fmt::format("migration {} is missing; run-recorderd --migrate applies it", migration.name));
  }
  if (!problems.empty()) return Error{ErrorKind::kNotFound, join(problems)};
  for (const WantedTable& wanted : wanted_tables()) {
    const PgTable& table = schema.tables.at(std::string(wanted.name));
    const std::string name = schema.prefix + std::string(wanted.name);
    std::string missing;
    if (table.exists) check_columns(name, table, wanted.own, missing, problems);
    if (!table.exists) problems.push_back(fmt::format("there is no table {}", name));
    if (!missing.empty()) problems.push_back(fmt::format("{} lacks the columns {}", name, missing));
    if (!table.missing_rights.empty()) {
      problems.push_back(fmt::format("this role lacks {} on {}", table.missing_rights, name));
    }
    if (table.hides_rows) problems.push_back(advice_for_hidden_rows(name));
  }
  if (!problems.empty()) return refused(join(problems));
  return {};
}

}  // namespace run_recorder
