// A runs row as the SQLite adapter's queries bring it. For the adapter's own files.
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

// The ids of the chain of run ?1, at most ?2. Up and down from the given id at once: ids that no row has hold their
// children together too. UNION forgets what it has seen, so that loops end.
inline constexpr std::string_view kChainIds =
    "WITH RECURSIVE member (id) AS (SELECT run_id FROM \"{{prefix}}runs\" WHERE run_id = ?1 "
    "UNION SELECT r.parent_attempt_run_id FROM member JOIN \"{{prefix}}runs\" r ON r.run_id = member.id "
    "WHERE r.parent_attempt_run_id IS NOT NULL "
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
