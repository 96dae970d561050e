// The table of the columns (store/columns.h) against what it drives: the schemas that the migrations make, and every
// statement that writes a row or an entry. A column that is added is tested here by its line in that table.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <concepts>
#include <map>
#include <set>

#include "base/time.h"
#include "conformance_fixture.h"
#include "store/columns.h"

namespace run_recorder::testing {

namespace {

using namespace std::chrono_literals;

using ColumnTable = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, ColumnTable, all_backends(), name_of);

// Gives a column a value of its own, another one with each round.
struct Fill {
  ColumnKind kind;
  int place;
  int round;

  std::string text() const {
    return kind == ColumnKind::kJson ? fmt::format(R"({{"n":{}}})", 100 * round + place)
                                     : fmt::format("\\N\t{} of {}", place, round);
  }
  void operator()(std::string& value) const { value = text(); }
  void operator()(Status& value) const { value = round == 1 ? Status::kRunning : Status::kCompleted; }
  void operator()(Effect& value) const { value = round == 1 ? Effect::kConflict : Effect::kApplied; }
  void operator()(bool& value) const { value = round == 1; }
  void operator()(std::integral auto& number) const { number = 100 * round + place; }
  void operator()(Timestamp& time) const { time = at("2026-01-02T03:04:05.678901Z") + 100h * round + 1h * place; }
  void operator()(JsonColumn& json) const { json = text(); }
  template <class Value>
  void operator()(std::optional<Value>& value) const {
    (*this)(value.emplace());
  }
};

template <class Column, class Row>
void fill(std::span<const Column> columns, Row& row, int round) {
  for (int place = 1; const Column& column : columns) visit_value(column, row, Fill{column.kind, place++, round});
}

run_recorder::Run filled(std::string run_id, std::int64_t last_seq, int round = 1) {
  run_recorder::Run run;
  fill(run_columns(), run, round);
  run.run_id = std::move(run_id);
  run.last_seq = last_seq;
  return run;
}

template <class Event>
Event filled_event(const std::string& run_id, std::int64_t seq, int round) {
  Event event;
  fill(history_columns(), event, round);
  HistoryEntry* entry = nullptr;
  if constexpr (std::same_as<Event, StoredEvent>) {
    entry = &event.entry;
  } else {
    entry = &event;
  }
  entry->run_id = run_id;
  entry->seq = seq;
  return event;
}

struct Show {
  std::string operator()(const std::string& text) const { return text; }
  std::string operator()(Status status) const { return std::string(to_string(status)); }
  std::string operator()(Effect effect) const { return std::string(to_string(effect)); }
  std::string operator()(std::integral auto number) const { return fmt::format("{}", number); }
  std::string operator()(Timestamp time) const { return format_rfc3339(time); }
  std::string operator()(const JsonColumn& json) const { return (*this)(json.text()); }
  template <class Value>
  std::string operator()(const std::optional<Value>& value) const {
    return value ? (*this)(*value) : "NULL";
  }
};

// The values of the columns that `which` wants, by their names; JSON without the spaces that PostgreSQL puts in.
template <class Column, class Row>
std::map<std::string, std::string> shown(std::span<const Column> columns, const Row& row, const auto& which) {
  std::map<std::string, std::string> values;
  for (const Column& column : columns) {
    if (!which(column)) continue;
    std::string text;
    visit_value(column, row, [&](const auto& value) { text = Show()(value); });
    if (column.kind == ColumnKind::kJson) std::erase(text, ' ');
    values.emplace(column.name, text);
  }
  return values;
}

const auto every = [](const auto&) { return true; };
const auto written = [](const auto& column) {
  return !column.clock() && column.group != ColumnGroup::kRecorder && column.group != ColumnGroup::kDatabase;
};
const auto moved = [](const auto& column) { return column.group != ColumnGroup::kDatabase; };

template <class Column>
std::string names_of(std::span<const Column> columns) {
  std::set<std::string_view> names;
  for (const Column& column : columns) names.insert(column.name);
  return fmt::format("{}", fmt::join(names, "\n"));
}

// A short key means one column; l and a key, and these, are what a record of an update says beside them.
template <class Column>
void expect_keys_of_their_own(std::span<const Column> columns) {
  std::set<std::string> keys{"a", "f", "u", "rc"};
  for (const Column& column : columns) {
    if (column.kind == ColumnKind::kJson) {
      EXPECT_TRUE(keys.insert("l" + std::string(column.key)).second) << column.name;
    }
  }
  if (std::same_as<Column, HistoryColumn>) keys.clear();
  for (const Column& column : columns) EXPECT_TRUE(keys.emplace(column.key).second) << column.name;
}

}  // namespace

TEST(ColumnKeys, AreEachColumnsOwn) {
  expect_keys_of_their_own(run_columns());
  expect_keys_of_their_own(history_columns());
}

TEST_P(ColumnTable, HasTheColumnsThatTheMigrationsMake) {
  const auto made = [&](std::string_view table) {
    return database().query(
        GetParam() == Backend::kSqlite
            ? fmt::format("SELECT name FROM pragma_table_info('{}{}') ORDER BY name", kPrefix, table)
            : fmt::format("SELECT attname FROM pg_attribute WHERE attrelid = '{}{}'::regclass AND attnum > 0 AND NOT "
                          "attisdropped ORDER BY attname COLLATE \"C\"",
                          kPrefix, table));
  };
  EXPECT_EQ(made("runs"), names_of(run_columns()));
  EXPECT_EQ(made("run_events"), names_of(history_columns()));
}

TEST_P(ColumnTable, EveryColumnOfANewRowIsWritten) {
  const Run run = filled("r", 1);
  commit(batch({insert(run)}, {entry("r", 1)}));
  EXPECT_EQ(shown(run_columns(), stored("r"), written), shown(run_columns(), run, written));
}

TEST_P(ColumnTable, EveryColumnIsEmptyWhereNothingSaidIt) {
  Run run;
  run.run_id = "r";
  run.last_seq = 1;
  commit(batch({insert(run)}, {entry("r", 1)}));
  EXPECT_EQ(shown(run_columns(), stored("r"), written), shown(run_columns(), run, written));
}

TEST_P(ColumnTable, AChangeWritesTheColumnsOfItsGroups) {
  for (int groups = 0; groups < 8; ++groups) {
    const std::string id = fmt::format("r{}", groups);
    const Run before = filled(id, 1);
    commit(batch({insert(before)}, {entry(id, 1)}));
    RunChange change;
    change.after = filled(id, 2, 2);
    change.expected_last_seq = 1;
    change.fields_changed = (groups & 1) != 0;
    change.outcome_changed = (groups & 2) != 0;
    change.reports_changed = (groups & 4) != 0;
    commit(batch({change}, {entry(id, 2)}));
    const Run after = stored(id);
    const auto changed = [&](const RunColumn& column) { return written(column) && writes(change, column.group); };
    const auto kept = [&](const RunColumn& column) { return written(column) && !writes(change, column.group); };
    EXPECT_EQ(shown(run_columns(), after, changed), shown(run_columns(), change.after, changed)) << groups;
    EXPECT_EQ(shown(run_columns(), after, kept), shown(run_columns(), before, kept)) << groups;
  }
}

TEST_P(ColumnTable, EveryColumnOfTheHistoryIsWritten) {
  for (int round = 1; round <= 2; ++round) {
    const auto one = filled_event<HistoryEntry>("r", round, round);
    const Run run = filled("r", round);
    commit(batch({round == 1 ? insert(run) : update(filled("r", 1))}, {one}));
    StoredEvent expected;
    expected.entry = one;
    const StoredEvent event = history("r").at(round - 1);
    EXPECT_EQ(shown(history_columns(), event, written), shown(history_columns(), expected, written));
    EXPECT_EQ(event.recorder, self_.id);
    EXPECT_TRUE(event.inserted_at);
  }
}

TEST_P(ColumnTable, EveryColumnIsMoved) {
  const Run run = filled("r", 2);
  const std::vector<StoredEvent> events{filled_event<StoredEvent>("r", 1, 1), filled_event<StoredEvent>("r", 2, 2)};
  ASSERT_TRUE(insert_one(store(), run, events).value());
  EXPECT_EQ(shown(run_columns(), store().whole_runs(1, "").value().runs.at(0).run, every),
            shown(run_columns(), run, every));
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(shown(history_columns(), history("r").at(i), moved), shown(history_columns(), events[i], moved));
  }
}

}  // namespace run_recorder::testing
