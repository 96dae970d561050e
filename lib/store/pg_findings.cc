// Expectations and findings in PostgreSQL, and what of the runs they are judged by.
#include <fmt/format.h>

#include <set>
#include <tuple>

#include "base/json_writer.h"
#include "store/finding_rows.h"
#include "store/pg_page.h"
#include "store/pg_store.h"

namespace run_recorder {
namespace {

std::string finding_list() {
  return fmt::format(
      "f.id, f.kind, f.expectation, f.council, f.run_id, {}, f.allowed_ms, {}, {}, f.ended_by, f.recorder",
      utc_text("f.due_at"), utc_text("f.opened_at"), utc_text("f.ended_at"));
}

std::string records_of(std::span<const NewFinding> findings) {
  JsonRecords records;
  for (const NewFinding& finding : findings) {
    records.begin();
    records.text("kind", to_string(finding.kind));
    records.text("expectation", finding.expectation);
    records.text("council", finding.council);
    records.text("run_id", finding.run_id);
    records.time("due_at", finding.due_at);
    if (finding.allowed) records.number("allowed_ms", finding.allowed->count());
    records.end();
  }
  return std::move(records).take();
}

}  // namespace

Result<void> PgStore::adopt_expectations(const RecorderSelf& self, std::span<const ExpectationDefinition> all) {
  JsonRecords records;
  for (const ExpectationDefinition& one : all) {
    records.begin();
    records.text("name", one.name);
    records.text("definition", one.definition);
    records.end();
  }
  const auto written = connection_->exec(
      fmt::format(
          "INSERT INTO {} AS e (name, definition, since, judged_at, judged_by) SELECT name, definition, "
          "clock_timestamp(), clock_timestamp(), $2 FROM jsonb_to_recordset($1::jsonb) AS c (name text, definition "
          "text) ORDER BY name ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, judged_at = "
          "excluded.judged_at, judged_by = excluded.judged_by, since = CASE WHEN e.definition = "
          "excluded.definition THEN e.since ELSE excluded.since END WHERE e.definition = excluded.definition OR "
          "e.judged_by = excluded.judged_by OR e.judged_at <= clock_timestamp() - interval '{} seconds'",
          table("expectations"), std::chrono::seconds(kJudgedLately).count()),
      {std::move(records).take(), self.id});
  if (!written) return written.error();
  return {};
}

Result<std::vector<KnownExpectation>> PgStore::known_expectations() {
  const auto rows = connection_->exec(fmt::format("SELECT e.name, e.definition, {} FROM {} e ORDER BY e.name",
                                                  utc_text("e.since"), table("expectations")));
  if (!rows) return rows.error();
  std::vector<KnownExpectation> known;
  for (const auto& row : *rows) {
    PgFields fields(row);
    known.push_back(read_known(fields));
  }
  return known;
}

Result<std::uint64_t> PgStore::end_abandoned_findings(std::chrono::milliseconds unadopted_for) {
  const auto ended = connection_->exec(
      fmt::format(
          "UPDATE {} f SET ended_at = clock_timestamp(), ended_by = '{}' WHERE f.ended_at IS NULL AND NOT EXISTS "
          "(SELECT 1 FROM {} e WHERE e.name = f.expectation AND e.judged_at > clock_timestamp() - $1::bigint * "
          "interval '1 millisecond')",
          table("findings"), kExpectedNoMore, table("expectations")),
      {unadopted_for.count()});
  if (!ended) return ended.error();
  return static_cast<std::uint64_t>(ended->affected_rows());
}

// By steps from one name to the next in the council's index.
Result<std::vector<std::string>> PgStore::council_names(std::size_t limit) {
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  if (const auto set = connection_->exec_script("SET LOCAL enable_seqscan = off"); !set) return set.error();
  const auto rows = connection_->exec(
      fmt::format(
          "WITH RECURSIVE n (council, place) AS ((SELECT r.council::text, 1 FROM {0} r ORDER BY r.council LIMIT 1) "
          "UNION ALL SELECT (SELECT r.council::text FROM {0} r WHERE r.council > n.council ORDER BY r.council "
          "LIMIT 1), n.place + 1 FROM n WHERE n.council IS NOT NULL AND n.place < $1::bigint) "
          "SELECT council FROM n WHERE council IS NOT NULL",
          table("runs")),
      {limit});
  if (!rows) return rows.error();
  if (auto done = transaction->commit(); !done) return done.error();
  std::vector<std::string> names;
  for (const auto& row : *rows) names.push_back(PgFields(row).text());
  return names;
}

Result<std::vector<StartedRun>> PgStore::last_starts(std::span<const std::string> councils) {
  const std::string newest = fmt::format(
      "SELECT r.run_id::text AS run_id, r.council::text AS council, least({}, {}) AS started FROM {} r WHERE r.council = "
      "n.council AND r.started_at IS NOT NULL ORDER BY r.inserted_at DESC, r.run_id DESC LIMIT {}",
      schema_.instant("runs", "started_at", "r"), schema_.instant("runs", "updated_at", "r"), table("runs"),
      kStartedRows);
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  if (const auto set = connection_->exec_script("SET LOCAL enable_seqscan = off"); !set) return set.error();
  const auto rows = connection_->exec(
      fmt::format(
          "SELECT s.run_id, s.council, {} FROM jsonb_array_elements_text($1::jsonb) AS n (council) CROSS JOIN "
          "LATERAL (SELECT * FROM ({}) s ORDER BY started DESC, run_id DESC LIMIT 1) s",
          utc_text("s.started"), newest),
      {json_list(councils)});
  if (!rows) return rows.error();
  if (auto done = transaction->commit(); !done) return done.error();
  std::vector<StartedRun> started;
  for (const auto& row : *rows) {
    PgFields fields(row);
    if (auto run = read_started(fields)) started.push_back(std::move(*run));
  }
  return started;
}

Result<std::vector<std::chrono::milliseconds>> PgStore::durations(std::string_view council, std::size_t limit) {
  const auto rows = connection_->exec(
      fmt::format(
          "SELECT (date_part('epoch', {} - {}) * 1000)::bigint FROM {} r WHERE r.council = $1::text AND r.status = "
          "'{}' AND r.started_at IS NOT NULL AND r.finalized_at IS NOT NULL ORDER BY r.inserted_at DESC, "
          "r.run_id DESC LIMIT {}",
          schema_.instant("runs", "finalized_at", "r"), schema_.instant("runs", "started_at", "r"), table("runs"),
          to_string(Status::kCompleted), limit),
      {council});
  if (!rows) return rows.error();
  std::vector<std::chrono::milliseconds> durations;
  for (const auto& row : *rows) durations.emplace_back(PgFields(row).integer());
  return durations;
}

Result<std::vector<bool>> PgStore::open_findings(const RecorderSelf& self, std::span<const NewFinding> findings) {
  const auto rows = connection_->exec(
      fmt::format(
          "INSERT INTO {} (kind, expectation, council, run_id, due_at, allowed_ms, opened_at, recorder) SELECT kind, "
          "expectation, council, run_id, due_at, allowed_ms, clock_timestamp(), $2 FROM "
          "jsonb_to_recordset($1::jsonb) AS c (kind text, expectation text, council text, run_id text, due_at "
          "timestamptz, allowed_ms bigint) ORDER BY kind, expectation, run_id ON CONFLICT (kind, expectation, "
          "run_id) WHERE ended_at IS NULL DO NOTHING RETURNING kind, expectation, run_id",
          table("findings")),
      {records_of(findings), self.id});
  if (!rows) return rows.error();
  std::set<std::tuple<std::string, std::string, std::string>> opened;
  for (const auto& row : *rows) {
    PgFields fields(row);
    std::string kind = fields.text();
    std::string expectation = fields.text();
    opened.emplace(std::move(kind), std::move(expectation), fields.text());
  }
  std::vector<bool> which;
  for (const NewFinding& finding : findings) {
    which.push_back(opened.erase({std::string(to_string(finding.kind)), finding.expectation, finding.run_id}) > 0);
  }
  return which;
}

Result<std::vector<bool>> PgStore::end_findings(std::span<const FindingEnd> ends) {
  JsonRecords records;
  for (const FindingEnd& end : ends) {
    records.begin();
    records.number("id", end.id);
    records.text("by", end.by);
    records.end();
  }
  const auto rows = connection_->exec(
      fmt::format("UPDATE {} f SET ended_at = clock_timestamp(), ended_by = coalesce(c.by, '') FROM "
                  "jsonb_to_recordset($1::jsonb) AS c (id bigint, by text) WHERE f.id = c.id AND f.ended_at IS NULL "
                  "RETURNING f.id",
                  table("findings")),
      {std::move(records).take()});
  if (!rows) return rows.error();
  std::set<std::int64_t> ended;
  for (const auto& row : *rows) ended.insert(PgFields(row).integer());
  std::vector<bool> which;
  for (const FindingEnd& end : ends) which.push_back(ended.erase(end.id) > 0);
  return which;
}

Result<FindingPage> PgStore::list_findings(const FindingFilter& filter, std::size_t limit, std::string_view cursor) {
  const auto before = decode_number_cursor(cursor);
  if (!before) return invalid_cursor(cursor);
  PgCommand command;
  std::string where = filter.open ? "f.ended_at IS NULL" : "true";
  if (filter.expectation) where += " AND f.expectation = " + command.param(*filter.expectation, "text");
  if (filter.kind) where += " AND f.kind = " + command.param(to_string(*filter.kind), "text");
  if (*before > 0) where += " AND f.id < " + command.param(*before, "bigint");
  const auto rows = connection_->exec(fmt::format("SELECT {} FROM {} f WHERE {} ORDER BY f.id DESC LIMIT {}",
                                                  finding_list(), table("findings"), where, limit + 1),
                                      command.params);
  if (!rows) return rows.error();
  FindingPage page;
  for (const auto& row : *rows) {
    if (page.findings.size() == limit) {
      page.next = std::to_string(page.findings.back().id);
      break;
    }
    PgFields fields(row);
    page.findings.push_back(read_finding(fields));
  }
  return page;
}

Result<std::uint64_t> PgStore::forget_findings(std::chrono::milliseconds older_than, std::size_t limit) {
  const auto gone = connection_->exec(
      fmt::format("DELETE FROM {0} WHERE id IN (SELECT id FROM {0} WHERE ended_at < clock_timestamp() - $1::bigint * "
                  "interval '1 millisecond' ORDER BY ended_at LIMIT {1})",
                  table("findings"), limit),
      {older_than.count()});
  if (!gone) return gone.error();
  return static_cast<std::uint64_t>(gone->affected_rows());
}

}  // namespace run_recorder
