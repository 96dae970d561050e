#include "store/pg_row_sql.h"

#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <type_traits>
#include <utility>
#include <vector>

namespace run_recorder {
namespace {

constexpr std::string_view table_of(const RunColumn&) {
  return "runs";
}
constexpr std::string_view table_of(const HistoryColumn&) {
  return "run_events";
}

// Whether a record has the column; a statement gives the value of the others.
template <class Column>
bool in_records(const Column& column, RowSource source) {
  if (column.group == ColumnGroup::kDatabase) return false;
  return source == RowSource::kMoved || !(column.clock() || column.group == ColumnGroup::kRecorder);
}

template <class Column>
std::string value_of(const PgSchema& schema, const Column& column, RowSource source) {
  if (!in_records(column, source)) {
    return column.clock() ? schema.now_for(table_of(column), column.name) : "$1::text";
  }
  if (column.name == "recorder" && source == RowSource::kEvents)
    return fmt::format("coalesce(c.{}, $1::text)", column.key);
  if (column.name == "sender_process")
    return fmt::format("coalesce(c.{}, c.w, '')", column.key);  // mostly the worker
  if (column.name == "effect") return fmt::format("coalesce(c.{}, '{}')", column.key, to_string(Effect::kApplied));
  const bool empty_is_left_out =
      column.owner == ColumnOwner::kOwn && column.kind == ColumnKind::kText && !column.nullable;
  return fmt::format(fmt::runtime(empty_is_left_out ? "coalesce(c.{}, '')" : "c.{}"), column.key);
}

template <class Column>
std::string record_of(const PgSchema& schema, std::span<const Column> columns, RowSource source) {
  std::string fields;
  for (const Column& column : columns) {
    if (!in_records(column, source)) continue;
    fields += fmt::format("{}{} {}", fields.empty() ? "" : ", ", column.key,
                          schema.column(table_of(column), column.name).type);
  }
  return ") AS c (" + fields;
}

template <class Column>
PgRowSql insert_sql(const PgSchema& schema, std::span<const Column> columns, RowSource source) {
  const std::string_view table = table_of(columns.front());
  std::string names;
  std::string values;
  for (const Column& column : columns) {
    if (column.group == ColumnGroup::kDatabase) continue;
    const std::string_view separator = names.empty() ? "" : ", ";
    names += fmt::format("{}{}", separator, column.name);
    values += fmt::format("{}{}", separator, value_of(schema, column, source));
  }
  // A moved entry of the history was never changed since it was inserted.
  std::string updated_at;
  if (source == RowSource::kMoved && has_updated_at(schema, table) &&
      schema.column(table, "updated_at").base == schema.column(table, "inserted_at").base) {
    updated_at = value_of(schema, *std::ranges::find(columns, "inserted_at", &Column::name), source);
  }
  return {.head = fmt::format("INSERT INTO {} ({}{}) SELECT {}{} FROM jsonb_to_recordset(", schema.table(table),
                              filled_columns(schema, table), names, filled_values(schema, table, updated_at), values),
          .record = record_of(schema, columns, source) + ")"};
}

// What a record of an update says beside the row: which groups of columns the event changed; l and a column's key:
// the row was loaded without that column, which stays as it is.
constexpr std::string_view flag_of(ColumnGroup group) {
  switch (group) {
    case ColumnGroup::kFields:
      return "f";
    case ColumnGroup::kOutcome:
      return "u";
    case ColumnGroup::kReports:
      return "rc";
    default:
      return {};
  }
}
constexpr ColumnGroup kFlagged[] = {ColumnGroup::kFields, ColumnGroup::kOutcome, ColumnGroup::kReports};

struct PutJson {
  JsonRecords& rows;
  std::string_view key;
  bool json;

  void operator()(const std::string& text) const { json ? rows.json(key, text) : rows.text(key, text); }
  void operator()(Status status) const { rows.text(key, to_string(status)); }
  void operator()(Effect effect) const {
    if (effect != Effect::kApplied) rows.text(key, to_string(effect));
  }
  void operator()(bool flag) const { rows.boolean(key, flag); }
  void operator()(std::integral auto number) const { rows.number(key, std::int64_t{number}); }
  void operator()(Timestamp time) const { rows.time(key, time); }
  void operator()(const JsonColumn& column) const {
    column.loaded() ? rows.json(key, column.text()) : rows.boolean("l" + std::string(key), true);
  }
  template <class Value>
  void operator()(const std::optional<Value>& value) const {
    if (value) (*this)(*value);
  }
};

// `usual`: the text that is left out.
template <class Column>
void put_value(JsonRecords& rows, const Column& column, const auto& value, std::string_view usual) {
  if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
    if (column.owner != ColumnOwner::kContract && value == usual) return;
  }
  PutJson{rows, column.key, column.kind == ColumnKind::kJson}(value);
}

void put(JsonRecords& rows, const RunColumn& column, const Run& run, std::string_view self) {
  visit_value(column, run, [&](const auto& value) {
    const void* const member = &value;
    std::string_view usual;
    if (member == &run.recorder) usual = self;
    if (member == &run.sender_process) usual = run.worker_process;
    if (member == &run.worker_process && !run.bare) {
      rows.text(column.key, run.worker_process);  // where it is left out the row's stays
    } else {
      put_value(rows, column, value, usual);
    }
  });
}

void put_change(JsonRecords& rows, const RunChange& change, std::string_view self) {
  rows.begin();
  for (const RunColumn& column : run_columns()) {
    if (column.clock()) continue;
    if (change.insert || column.group == ColumnGroup::kKey || writes(change, column.group)) {
      put(rows, column, change.after, self);
    }
  }
  if (!change.insert) {
    rows.number("a", change.expected_last_seq);
    if (change.after.bare) rows.boolean("ba", true);
    for (const ColumnGroup group : kFlagged) {
      if (writes(change, group)) rows.boolean(flag_of(group), true);
    }
  }
  rows.end();
}

void put_moved(JsonRecords& rows, const Run& run) {
  rows.begin();
  for (const RunColumn& column : run_columns()) put(rows, column, run, {});
  rows.end();
}

// Of a StoredEvent, or of a HistoryEntry.
template <class Row>
void put_entry(JsonRecords& rows, const Row& row) {
  rows.begin();
  for (const HistoryColumn& column : history_columns()) {
    if (column.group == ColumnGroup::kDatabase) continue;
    visit_value(column, row, [&](const auto& value) { put_value(rows, column, value, {}); });
  }
  rows.end();
}

}  // namespace

std::string PgRowSql::with(std::string_view parameter) const {
  return fmt::format("{}{}{}", head, parameter, record);
}

PgRowSql insert_runs_sql(const PgSchema& schema, std::span<const RunColumn> columns, RowSource source) {
  return insert_sql(schema, columns, source);
}

PgRowSql insert_history_sql(const PgSchema& schema, RowSource source) {
  return insert_sql(schema, history_columns(), source);
}

PgRowSql update_runs_sql(const PgSchema& schema, std::span<const RunColumn> columns) {
  std::string sets;
  std::string record = record_of(schema, columns, RowSource::kEvents) + ", a bigint, ba boolean";
  for (const ColumnGroup group : kFlagged) record += fmt::format(", {} boolean", flag_of(group));
  for (const RunColumn& column : columns) {
    if (column.group == ColumnGroup::kKey || column.group == ColumnGroup::kInserted) continue;
    std::string value = value_of(schema, column, RowSource::kEvents);
    if (column.name == "worker_process") value = fmt::format("coalesce(c.{}, r.{})", column.key, column.name);
    if (column.unloadable()) {
      value = fmt::format("CASE WHEN c.l{} THEN r.{} ELSE {} END", column.key, column.name, value);
      record += fmt::format(", l{} boolean", column.key);
    }
    if (const auto flag = flag_of(column.group); !flag.empty()) {
      value = fmt::format("CASE WHEN c.{} THEN {} ELSE r.{} END", flag, value, column.name);
    }
    sets += fmt::format("{}{} = {}", sets.empty() ? "" : ", ", column.name, value);
  }
  return {.head = fmt::format("UPDATE {} r SET {} FROM jsonb_to_recordset(", schema.table("runs"), sets),
          .record = record + ")"};
}

bool fills_optional_columns(const BatchWrite& batch) {
  return std::ranges::any_of(batch.runs, [](const RunChange& change) {
    return std::ranges::any_of(optional_run_columns(), [&](const RunColumn& column) {
      return (change.insert || writes(change, column.group)) && has_value(column, change.after);
    });
  });
}

std::string changes_json(std::span<const RunChange* const> changes, std::string_view self) {
  JsonRecords rows;
  for (const RunChange* change : changes) put_change(rows, *change, self);
  return std::move(rows).take();
}

std::vector<const RunChange*> changes_of(const BatchWrite& batch, bool insert) {
  std::vector<const RunChange*> changes;
  for (const RunChange& change : batch.runs) {
    if (change.insert == insert) changes.push_back(&change);
  }
  std::ranges::sort(changes, {}, [](const RunChange* change) -> const std::string& { return change->after.run_id; });
  return changes;
}

std::string runs_json(const BatchWrite& batch, bool insert, std::string_view self) {
  const auto changes = changes_of(batch, insert);
  return changes.empty() ? std::string() : changes_json(changes, self);
}

std::string history_json(std::span<const HistoryEntry> history) {
  if (history.empty()) return {};
  JsonRecords rows;
  for (const HistoryEntry& entry : history) put_entry(rows, entry);
  return std::move(rows).take();
}

std::string moved_run_json(const Run& run) {
  JsonRecords rows;
  put_moved(rows, run);
  return std::move(rows).take();
}

MovedJson moved_json(std::span<const MovedRun> runs) {
  std::vector<const MovedRun*> sorted;
  for (const MovedRun& moved : runs) sorted.push_back(&moved);
  std::ranges::sort(sorted, {}, [](const MovedRun* moved) -> const std::string& { return moved->run.run_id; });
  JsonRecords rows;
  JsonRecords entries;
  for (const MovedRun* moved : sorted) {
    put_moved(rows, moved->run);
    for (const StoredEvent& event : moved->history) put_entry(entries, event);
  }
  return {.runs = std::move(rows).take(), .history = std::move(entries).take()};
}

std::string moved_history_json(std::span<const StoredEvent> history) {
  JsonRecords rows;
  for (const StoredEvent& event : history) put_entry(rows, event);
  return std::move(rows).take();
}

std::string filled_columns(const PgSchema& schema, std::string_view table) {
  return fmt::format("{}{}", new_id(schema, table).empty() ? "" : "id, ",
                     has_updated_at(schema, table) ? "updated_at, " : "");
}

std::string filled_values(const PgSchema& schema, std::string_view table, std::string_view updated_at) {
  std::string values;
  if (const auto id = new_id(schema, table); !id.empty()) values += fmt::format("{}, ", id);
  if (!has_updated_at(schema, table)) return values;
  return values += fmt::format("{}, ", updated_at.empty() ? schema.now_for(table, "updated_at") : updated_at);
}

bool has_updated_at(const PgSchema& schema, std::string_view table) {
  return table == "run_events" && schema.tables.find(table)->second.columns.contains("updated_at");
}

std::string_view new_id(const PgSchema& schema, std::string_view table) {
  const auto& columns = schema.tables.find(table)->second.columns;
  const auto id = columns.find("id");
  if (id == columns.end() || id->second.given || id->second.base != "uuid") return {};
  constexpr int kHasRandomUuid = 130'000;
  if (schema.server_version >= kHasRandomUuid) return "gen_random_uuid()";
  return "md5(random()::text || random()::text || clock_timestamp()::text)::uuid";
}

}  // namespace run_recorder
