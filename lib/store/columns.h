// The columns of <prefix>runs and <prefix>run_events: every statement, loader, check and JSON object of them is made
// from these two tables. A new column is a line in columns.cc, a member, and a migration for each database. Pure,
// thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "run/run.h"
#include "store/store.h"

namespace run_recorder {

// What a column must be able to hold.
enum class ColumnKind { kText, kInteger, kJson, kTime, kBoolean, kBytes, kAny };

enum class ColumnOwner {
  kContract,  // an application's own table brings it
  kOwn,       // the recorder's: a migration adds it
  kOptional,  // the recorder's, and NULL in most rows: left out of a statement where no row has a value
};

// Which change writes a column. An INSERT writes all but kDatabase.
enum class ColumnGroup {
  kKey,       // no change
  kAlways,    // every change
  kFields,    // Transition::fields_changed
  kOutcome,   // Transition::outcome_changed
  kReports,   // Transition::reports_changed
  kInserted,  // the INSERT, with the database's clock
  kChanged,   // every change, with the database's clock
  kRecorder,  // the INSERT, with the recorder that commits
  kDatabase,  // the database by itself
};

// How much of a row is loaded.
enum class RunParts : std::uint8_t {
  kAll = 1,
  kWithoutData = 2,  // without input and result
  kToDecide = 4,     // of input, result and error only whether they are there; of the times started and finalized
  kBare = 8,         // what a verdict needs, and explain: a pass may read a million rows
};

// What an import accepts: a number's range, a text's or a JSON object's bytes.
struct Allowed {
  std::int64_t least = 0;
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};

using RunMember =
    std::variant<std::string Run::*, Status Run::*, std::int32_t Run::*, std::int64_t Run::*, bool Run::*,
                 std::optional<std::string> Run::*, std::optional<std::int32_t> Run::*,
                 std::optional<std::int64_t> Run::*, std::optional<Timestamp> Run::*, JsonColumn Run::*>;

struct RunColumn {
  std::string_view name;
  std::string_view key;  // in the JSON objects that PostgreSQL parses with every row, hence short
  ColumnKind kind;
  RunMember member;
  ColumnOwner owner;
  bool nullable;  // a row may have no value
  ColumnGroup group;
  std::uint8_t parts;  // the RunParts that it is loaded with
  Allowed allowed = {};

  bool in(RunParts wanted) const { return (parts & static_cast<std::uint8_t>(wanted)) != 0; }
  // input, result, error: kToDecide loads only whether there is a value.
  bool unloadable() const { return std::holds_alternative<JsonColumn Run::*>(member); }
  bool clock() const { return group == ColumnGroup::kInserted || group == ColumnGroup::kChanged; }
};

using HistoryMember =
    std::variant<std::string HistoryEntry::*, std::int64_t HistoryEntry::*, Effect HistoryEntry::*,
                 Timestamp HistoryEntry::*, std::optional<std::string> HistoryEntry::*,
                 std::optional<Timestamp> HistoryEntry::*, std::optional<std::uint32_t> HistoryEntry::*,
                 std::optional<std::int32_t> HistoryEntry::*, std::int64_t StoredEvent::*, std::string StoredEvent::*,
                 std::optional<Timestamp> StoredEvent::*>;

struct HistoryColumn {
  std::string_view name;
  std::string_view key;
  ColumnKind kind;
  HistoryMember member;
  ColumnOwner owner;
  bool nullable;      // a text that is empty is NULL then
  ColumnGroup group;  // kAlways: the entry's
  Allowed allowed = {};

  bool clock() const { return group == ColumnGroup::kInserted; }
};

// In the order of the JSON objects. The optional ones are the last.
std::span<const RunColumn> run_columns();
std::span<const RunColumn> optional_run_columns();
std::span<const RunColumn> plain_run_columns();  // the others
std::span<const HistoryColumn> history_columns();

// Whether a change of an existing row writes the columns of a group.
bool writes(const RunChange& change, ColumnGroup group);

// Calls visit(value) with the column's value in a row, typed as its member is.
template <class Row, class Visit>
void visit_value(const RunColumn& column, Row& run, Visit&& visit) {
  std::visit([&](auto member) { visit(run.*member); }, column.member);
}
// Of a StoredEvent, or of a HistoryEntry: its own columns only.
template <class Row, class Visit>
void visit_value(const HistoryColumn& column, Row& event, Visit&& visit) {
  std::visit(
      [&](auto member) {
        if constexpr (requires { event.*member; }) {
          visit(event.*member);
        } else if constexpr (requires { event.entry.*member; }) {
          visit(event.entry.*member);
        }
      },
      column.member);
}

std::optional<Effect> parse_effect(std::string_view text);

// Whether the row has a value, loaded or not.
bool has_value(const RunColumn& column, const Run& run);
// The bytes of the row's JSON, of which all that it has is loaded; with_texts: of its texts too.
std::size_t bytes_of(const Run& run, bool with_texts);

}  // namespace run_recorder
