#include "store/pg_sequences.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "store/migrations.h"
#include "store/pg_rows.h"

namespace run_recorder {
namespace {

constexpr std::array<std::string_view, 2> kTables{"run_events", "dead_letters"};

// The sequence of a table's ids, whether this role may read and set it, and whether an index finds the highest id.
constexpr const char* kSequence =
    "SELECT s.name, has_sequence_privilege(s.name, 'USAGE') OR has_sequence_privilege(s.name, 'SELECT'), "
    "has_sequence_privilege(s.name, 'UPDATE'), EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a "
    "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass($1) AND i.indisvalid "
    "AND i.indpred IS NULL AND a.attname = 'id') FROM (SELECT pg_get_serial_sequence($1, 'id') AS name) s "
    "JOIN pg_sequence q ON q.seqrelid = to_regclass(s.name) WHERE s.name IS NOT NULL AND q.seqincrement > 0";

// Empty: none that we know of, as where the ids are not numbers.
struct Sequence {
  std::string name;  // quoted, with its schema
  bool readable = false;
  bool settable = false;
  bool has_index = false;
};

Result<std::optional<Sequence>> sequence_of(PgConnection& connection, const std::string& table) {
  const auto rows = connection.exec(kSequence, {table});
  if (!rows) return rows.error();
  if (rows->empty()) return std::optional<Sequence>();
  PgFields fields((*rows)[0]);
  Sequence sequence;
  sequence.name = fields.text();
  sequence.readable = fields.boolean();
  sequence.settable = fields.boolean();
  sequence.has_index = fields.boolean();
  return std::optional(std::move(sequence));
}

// The last id that was given out, or 0, and the highest in use.
struct Ids {
  std::int64_t given = 0;
  std::int64_t highest = 0;
  bool behind() const { return given < highest; }
};

Result<Ids> ids_of(PgConnection& connection, const std::string& table, const Sequence& sequence) {
  const auto rows = connection.exec(
      fmt::format(
          "SELECT coalesce(pg_sequence_last_value(to_regclass($1)), 0), (SELECT coalesce(max(id), 0) FROM {})",
          table),
      {sequence.name});
  if (!rows) return rows.error();
  PgFields fields((*rows)[0]);
  Ids ids;
  ids.given = fields.integer();
  ids.highest = fields.integer();
  return ids;
}

// Read again under the lock: another daemon may have set it meanwhile, and it must never go back.
Result<bool> advance(PgConnection& connection, const PgSchema& schema, const std::string& table,
                     const Sequence& sequence) {
  auto transaction = PgTransaction::begin(connection);
  if (!transaction) return transaction.error();
  const auto locked =
      connection.exec("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", {lock_of_migrations(schema.prefix)});
  if (!locked) return locked.error();
  const auto ids = ids_of(connection, table, sequence);
  if (!ids) return ids.error();
  if (!ids->behind()) return false;
  if (auto set = connection.exec("SELECT setval(to_regclass($1), $2::bigint)", {sequence.name, ids->highest}); !set) {
    return set.error();
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return true;
}

Result<void> look_after(PgConnection& connection, const PgSchema& schema, std::string_view name, PgSequences& found) {
  const std::string table = schema.table(name);
  const auto sequence = sequence_of(connection, table);
  if (!sequence) return sequence.error();
  if (!*sequence || !(*sequence)->has_index) return {};
  if (!(*sequence)->readable) {
    found.unseen.push_back(
        fmt::format("permission denied: this role cannot read the sequence {0} of {1}.id: GRANT USAGE, UPDATE ON "
                    "SEQUENCE {0}",
                    (*sequence)->name, table));
    return {};
  }
  const auto ids = ids_of(connection, table, **sequence);
  if (!ids) return ids.error();
  if (!ids->behind()) return {};
  if (!(*sequence)->settable) {
    found.denied.push_back(
        fmt::format("the sequence {0} is at {1}, behind the ids of {2} (up to {3}), and this role may not set "
                    "it: GRANT UPDATE ON SEQUENCE {0}, or SELECT setval('{0}', {3})",
                    (*sequence)->name, ids->given, table, ids->highest));
    return {};
  }
  const auto set = advance(connection, schema, table, **sequence);
  if (!set) return set.error();
  if (*set) {
    found.advanced.push_back(
        fmt::format("{} was at {}, the ids of {} go up to {}", (*sequence)->name, ids->given, table, ids->highest));
  }
  return {};
}

}  // namespace

Result<PgSequences> advance_pg_sequences(PgConnection& connection, const PgSchema& schema) {
  PgSequences found;
  for (const std::string_view name : kTables) {
    if (auto looked = look_after(connection, schema, name, found); !looked) return looked.error();
  }
  return found;
}

}  // namespace run_recorder
