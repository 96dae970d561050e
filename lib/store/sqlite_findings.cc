// Expectations and findings in SQLite, and what of the runs they are judged by.
#include <fmt/format.h>

#include "store/finding_rows.h"
#include "store/sqlite_store.h"

namespace run_recorder {
namespace {

constexpr std::string_view kAdoptExpectation =
    "INSERT INTO \"{{prefix}}expectations\" AS e (name, definition, since, judged_at, judged_by) VALUES (?1, ?2, ?3, ?3, "
    "?4) ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, judged_at = excluded.judged_at, judged_by = "
    "excluded.judged_by, since = CASE WHEN e.definition = excluded.definition THEN e.since ELSE excluded.since END WHERE "
    "e.definition = excluded.definition OR e.judged_by = excluded.judged_by OR e.judged_at <= ?5";
constexpr std::string_view kKnownExpectations =
    "SELECT name, definition, since FROM \"{{prefix}}expectations\" ORDER BY name";
const std::string& end_abandoned_sql() {
  static const std::string sql = fmt::format(
      "UPDATE \"{{{{prefix}}}}findings\" AS f SET ended_at = ?1, ended_by = '{}' WHERE f.ended_at IS NULL AND NOT EXISTS "
      "(SELECT 1 FROM \"{{{{prefix}}}}expectations\" e WHERE e.name = f.expectation AND e.judged_at > ?2)",
      kExpectedNoMore);
  return sql;
}

// By steps from one name to the next in the council's index.
constexpr std::string_view kCouncilNames =
    "WITH RECURSIVE n (council, place) AS (SELECT min(council), 1 FROM \"{{prefix}}runs\" UNION ALL SELECT (SELECT "
    "min(r.council) FROM \"{{prefix}}runs\" r WHERE r.council > n.council), n.place + 1 FROM n WHERE n.council IS NOT NULL "
    "AND n.place < ?1) SELECT council FROM n WHERE council IS NOT NULL";

const std::string& last_start_sql() {
  static const std::string sql = fmt::format(
      "SELECT run_id, council, min(run_recorder_time(started_at), run_recorder_time(updated_at)) AS started FROM (SELECT "
      "run_id, council, started_at, updated_at FROM \"{{{{prefix}}}}runs\" WHERE council = ?1 AND started_at IS NOT NULL "
      "ORDER BY inserted_at DESC, run_id DESC LIMIT {}) ORDER BY started DESC, run_id DESC LIMIT 1",
      kStartedRows);
  return sql;
}

const std::string& durations_sql() {
  static const std::string sql = fmt::format(
      "SELECT CAST(round((julianday(run_recorder_time(finalized_at)) - julianday(run_recorder_time(started_at))) * "
      "86400000.0) AS INTEGER) FROM \"{{{{prefix}}}}runs\" WHERE council = ?1 AND status = '{}' AND started_at IS NOT NULL "
      "AND finalized_at IS NOT NULL ORDER BY inserted_at DESC, run_id DESC LIMIT ?2",
      to_string(Status::kCompleted));
  return sql;
}

constexpr std::string_view kOpenFinding =
    "INSERT INTO \"{{prefix}}findings\" (kind, expectation, council, run_id, due_at, allowed_ms, opened_at, recorder) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (kind, expectation, run_id) WHERE ended_at IS NULL DO NOTHING";
constexpr std::string_view kEndFinding =
    "UPDATE \"{{prefix}}findings\" SET ended_at = ?2, ended_by = ?3 WHERE id = ?1 AND ended_at IS NULL";
constexpr std::string_view kListFindings =
    "SELECT id, kind, expectation, council, run_id, due_at, allowed_ms, opened_at, ended_at, ended_by, recorder FROM "
    "\"{{prefix}}findings\" WHERE (NOT ?1 OR ended_at IS NULL) AND (?2 IS NULL OR expectation = ?2) AND (?3 IS NULL OR "
    "kind = ?3) AND (?4 = 0 OR id < ?4) ORDER BY id DESC LIMIT ?5";
constexpr std::string_view kForgetFindings =
    "DELETE FROM \"{{prefix}}findings\" WHERE id IN (SELECT id FROM \"{{prefix}}findings\" WHERE ended_at < ?1 "
    "ORDER BY ended_at LIMIT ?2)";

std::optional<std::int64_t> in_ms(std::optional<std::chrono::milliseconds> time) {
  if (!time) return std::nullopt;
  return time->count();
}

}  // namespace

Result<void> SqliteStore::adopt_expectations(const RecorderSelf& self, std::span<const ExpectationDefinition> all) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  for (const ExpectationDefinition& one : all) {
    const auto written = write(kAdoptExpectation, one.name, one.definition, now, self.id, now - kJudgedLately);
    if (!written) return written.error();
  }
  return transaction->commit();
}

Result<std::vector<KnownExpectation>> SqliteStore::known_expectations() {
  if (auto begun = begin_call(); !begun) return begun.error();
  std::vector<KnownExpectation> known;
  const auto on_row = [&known](const SqliteRows& row) {
    SqliteFields fields(row);
    known.push_back(read_known(fields));
    return true;
  };
  if (auto done = read(kKnownExpectations, on_row); !done) return done.error();
  return known;
}

Result<std::uint64_t> SqliteStore::end_abandoned_findings(std::chrono::milliseconds unadopted_for) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const Timestamp now = clock_();
  const auto ended = write(end_abandoned_sql(), now, now - unadopted_for);
  if (!ended) return ended.error();
  return static_cast<std::uint64_t>(*ended);
}

Result<std::vector<std::string>> SqliteStore::council_names(std::size_t limit) {
  if (auto begun = begin_call(); !begun) return begun.error();
  std::vector<std::string> names;
  const auto on_row = [&names](const SqliteRows& row) {
    names.emplace_back(row.text(0));
    return true;
  };
  if (auto done = read(kCouncilNames, on_row, limit); !done) return done.error();
  return names;
}

Result<std::vector<StartedRun>> SqliteStore::last_starts(std::span<const std::string> councils) {
  if (auto begun = begin_call(); !begun) return begun.error();
  std::vector<StartedRun> started;
  const auto on_row = [&started](const SqliteRows& row) {
    SqliteFields fields(row);
    if (auto run = read_started(fields)) started.push_back(std::move(*run));
    return false;
  };
  for (const std::string& council : councils) {
    if (auto done = read(last_start_sql(), on_row, council); !done) return done.error();
  }
  return started;
}

Result<std::vector<std::chrono::milliseconds>> SqliteStore::durations(std::string_view council, std::size_t limit) {
  if (auto begun = begin_call(); !begun) return begun.error();
  std::vector<std::chrono::milliseconds> durations;
  const auto on_row = [&durations](const SqliteRows& row) {
    durations.emplace_back(row.integer(0));
    return true;
  };
  if (auto done = read(durations_sql(), on_row, council, limit); !done) return done.error();
  return durations;
}

Result<std::vector<bool>> SqliteStore::open_findings(const RecorderSelf& self, std::span<const NewFinding> findings) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  std::vector<bool> opened;
  for (const NewFinding& finding : findings) {
    const auto written = write(kOpenFinding, to_string(finding.kind), finding.expectation, finding.council,
                               finding.run_id, finding.due_at, in_ms(finding.allowed), now, self.id);
    if (!written) return written.error();
    opened.push_back(*written == 1);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return opened;
}

Result<std::vector<bool>> SqliteStore::end_findings(std::span<const FindingEnd> ends) {
  if (auto begun = begin_call(); !begun) return begun.error();
  auto transaction = SqliteTransaction::begin(*connection_, SqliteTransaction::Mode::kWrite);
  if (!transaction) return transaction.error();
  const Timestamp now = clock_();
  std::vector<bool> ended;
  for (const FindingEnd& end : ends) {
    const auto written = write(kEndFinding, end.id, now, end.by);
    if (!written) return written.error();
    ended.push_back(*written == 1);
  }
  if (auto done = transaction->commit(); !done) return done.error();
  return ended;
}

Result<FindingPage> SqliteStore::list_findings(const FindingFilter& filter, std::size_t limit,
                                               std::string_view cursor) {
  const auto before = decode_number_cursor(cursor);
  if (!before) return invalid_cursor(cursor);
  if (auto begun = begin_call(); !begun) return begun.error();
  FindingPage page;
  const auto on_row = [&](const SqliteRows& row) {
    if (page.findings.size() == limit) {
      page.next = std::to_string(page.findings.back().id);
      return false;
    }
    SqliteFields fields(row);
    page.findings.push_back(read_finding(fields));
    return true;
  };
  std::optional<std::string_view> kind;
  if (filter.kind) kind = to_string(*filter.kind);
  if (auto done = read(kListFindings, on_row, filter.open, filter.expectation, kind, *before, limit + 1); !done) {
    return done.error();
  }
  return page;
}

Result<std::uint64_t> SqliteStore::forget_findings(std::chrono::milliseconds older_than, std::size_t limit) {
  if (auto begun = begin_call(); !begun) return begun.error();
  const auto gone = write(kForgetFindings, clock_() - older_than, limit);
  if (!gone) return gone.error();
  return static_cast<std::uint64_t>(*gone);
}

}  // namespace run_recorder
