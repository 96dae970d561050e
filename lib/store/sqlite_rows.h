// Rows as the SQLite adapter's statements bring and write them: the lists of columns, and for runs and their history
// the statements, made from the tables of columns.h. For the adapter's own files; for one thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "database/sqlite.h"
#include "run/run.h"
#include "store/read_rows.h"

namespace run_recorder {

// The fields of a row, in order.
class SqliteFields {
 public:
  explicit SqliteFields(const SqliteRows& row, int first = 0) : row_(row), next_(first) {}
  std::string text() { return std::string(row_.text(next_++)); }
  std::optional<std::string> optional_text() { return row_.optional_text(next_++); }
  std::int64_t integer() { return row_.integer(next_++); }
  std::optional<std::int64_t> optional_integer() { return row_.optional_integer(next_++); }
  std::uint64_t count() { return static_cast<std::uint64_t>(integer()); }
  bool boolean() { return integer() != 0; }
  std::optional<Timestamp> time() { return row_.time(next_++); }
  std::string bytes() { return text(); }

 private:
  const SqliteRows& row_;
  int next_;
};

// Whether the row of run ?1 still has the version ?2 that read_run said.
inline constexpr std::string_view kSameVersion =
    "CASE WHEN last_seq > 0 THEN last_seq ELSE (SELECT coalesce(max(h.seq), 0) FROM \"{{prefix}}run_events\" h "
    "WHERE h.run_id = ?1) END = ?2";
// The SELECT list that read_run() reads, of runs as r. A row that an application wrote may have a history of which
// its last_seq, which is ours, does not know: then that history counts.
std::string run_list(RunParts parts);
// What read_event() reads.
std::string history_list();

// What new rows must have beside our own columns, where an application made the tables: a key that the database does
// not make by itself, and the history's updated_at. Names, and expressions in which {{now}} stands for the row's
// inserted_at; each ends with ", " or is empty.
struct FilledColumns {
  std::string columns;
  std::string values;
};
struct SqliteFill {
  FilledColumns runs, run_events;
};

// Their parameters are the columns of columns.h in their order, but for those that the database writes.
std::string insert_run_sql(const FilledColumns& fill);
std::string insert_event_sql(const FilledColumns& fill);
// ?1 the run, ?2 the version the decision was made from, then each column that such a change writes; before one that
// can stay unloaded whether it is loaded.
std::string update_run_sql(const RunChange& groups);

// The lists that read_dead_letter(), behind the id, and read_recorder() read.
inline constexpr std::string_view kLetterColumns =
    "recorder, run_id, type, event_id, record, line, sqlstate, reason, tries, received_at, inserted_at";
inline constexpr std::string_view kRecorderColumns =
    "id, host, version, incarnation, first_seen, last_seen, applied, duplicate, dead_letters, dead_letters_removed, "
    "conflicts";
// ?1, ?2 … for a list of names.
std::string parameters_for(std::string_view names);
inline constexpr std::string_view kInsertPosition =
    "INSERT INTO \"{{prefix}}positions\" (recorder, incarnation, applied, updated_at) VALUES (?1, ?2, ?3, ?4)";

// A column's value as a parameter. bind: of SqliteStatement::execute_with().
template <class Bind>
struct PutParameter {
  const Bind& bind;
  bool empty_is_null = false;
  bool says_loaded = false;

  void operator()(Status status) const { bind(to_string(status)); }
  void operator()(Effect effect) const { bind(to_string(effect)); }
  void operator()(const std::string& text) const { text.empty() && empty_is_null ? bind(std::nullopt) : bind(text); }
  void operator()(const JsonColumn& json) const {
    if (says_loaded) bind(json.loaded());
    json.loaded() ? bind(json.text()) : bind(std::nullopt);
  }
  void operator()(const auto& value) const { bind(value); }
};
template <class Bind, class... Settings>
PutParameter(const Bind&, Settings...) -> PutParameter<Bind>;

// The ids of the chain of run ?1, at most ?2. Up and down from the given id at once: ids that no row has hold their
// children together too. UNION forgets what it has seen, so that loops end. The parent is no join: for one, SQLite
// that knows of many rows makes a filter of all their ids first.
inline constexpr std::string_view kChainIds =
    "WITH RECURSIVE member (id) AS (SELECT run_id FROM \"{{prefix}}runs\" WHERE run_id = ?1 "
    "UNION SELECT (SELECT r.parent_attempt_run_id FROM \"{{prefix}}runs\" r WHERE r.run_id = member.id) AS parent "
    "FROM member WHERE parent IS NOT NULL "
    "UNION SELECT r.run_id FROM member JOIN \"{{prefix}}runs\" r ON r.parent_attempt_run_id = member.id LIMIT ?2) "
    "SELECT id FROM member";

// A row where the retention has removed run ?1.
inline constexpr std::string_view kIsPruned = "SELECT 1 FROM \"{{prefix}}pruned\" WHERE run_id = ?1";

// What a run weighs on a page.
std::size_t weight_of(const Run& run);

// The SQL for when a run's last event was applied, as 27 characters; '' where nothing says it.
inline constexpr std::string_view kLastEventAt =
    "coalesce(run_recorder_time(coalesce(r.last_event_at, r.updated_at, r.inserted_at)), '')";

}  // namespace run_recorder
