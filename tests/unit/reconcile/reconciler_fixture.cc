#include "reconciler_fixture.h"

#include <fmt/format.h>

namespace run_recorder::testing {

void ReconcilerFixture::SetUp() {
  RecorderFixture::SetUp();
  if (IsSkipped() || HasFatalFailure()) return;
  start();
  settle();
  options_.clock = [this] { return std::chrono::steady_clock::now() + skipped_.load(); };
  options_.store = store_options();
  options_.policy.interval = std::chrono::milliseconds{0};
  options_.connection_open = [this](std::string_view connection) { return open_connections_.contains(connection); };
}

void ReconcilerFixture::TearDown() {
  reconciler_.reset();
  RecorderFixture::TearDown();
}

void ReconcilerFixture::put_run(const std::string& run_id, const std::string& more, std::chrono::seconds age) {
  append({line_of("run_started", run_id, more)});
  settle();
  if (age.count() > 0) age_row(run_id, age);
}

void ReconcilerFixture::put_many(const std::string& prefix, const std::string& worker, const std::string& sender,
                                 const std::string& connection, const std::string& expires_in, int rows) const {
  execute(fmt::format(
      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO council_ex_runs "
      "(run_id, council, status, last_seq, inserted_at, updated_at, last_event_at, worker_process, sender_process, "
      "connection, expires_in) SELECT '{}-' || i, 'many', 'running', 1, '2026-01-01T00:00:00.000000Z', "
      "'2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z', {}, {}, {}, {} FROM n",
      rows, prefix, worker, sender, connection, expires_in));
}

void ReconcilerFixture::age_row(const std::string& run_id, std::chrono::milliseconds age) const {
  const Timestamp now = open_store()->database_now().value();
  set_column(run_id, "last_event_at", fmt::format("'{}'", format_rfc3339(now - age)));
}

void ReconcilerFixture::set_column(const std::string& run_id, const std::string& column,
                                   const std::string& value) const {
  execute(fmt::format("UPDATE council_ex_runs SET {} = {} WHERE run_id = '{}'", column, value, run_id));
}

void ReconcilerFixture::give_to_other(const std::string& run_id, std::chrono::milliseconds seen_ago) const {
  const auto store = open_store();
  ASSERT_TRUE(store->check_in({"recorder-x", "i-x", "host-x", "0.1.0"}));
  execute(fmt::format("UPDATE council_ex_recorders SET last_seen = '{}' WHERE id = 'recorder-x'",
                      format_rfc3339(store->database_now().value() - seen_ago)));
  set_column(run_id, "recorder", "'recorder-x'");
}

void ReconcilerFixture::skip(std::chrono::milliseconds time) {
  skipped_ = skipped_.load() + time;
  reconciler().reconfigure(options_.policy);  // it asks the clock again
}

Reconciler& ReconcilerFixture::reconciler() {
  if (!reconciler_) reconciler_ = std::make_unique<Reconciler>(options_, *recorder_);
  return *reconciler_;
}

PassReport ReconcilerFixture::pass(const PassRequest& request) {
  auto report = reconciler().reconcile(request);
  EXPECT_TRUE(report) << report.error().message;
  if (!report) return {};
  expect_sums(*report);
  return *report;
}

nlohmann::json ReconcilerFixture::explain(const std::string& run_id) {
  const auto store = open_store();
  const auto explained = reconciler().explain(*store, run_id);
  EXPECT_TRUE(explained) << explained.error().message;
  return nlohmann::json::parse(explained ? *explained : "{}");
}

const ReportedRun* ReconcilerFixture::find(const PassReport& report, const std::string& run_id) {
  for (const ReportedRun& run : report.runs) {
    if (run.run_id == run_id) return &run;
  }
  return nullptr;
}

std::string ReconcilerFixture::found(const PassReport& report, const std::string& run_id) {
  const ReportedRun* run = find(report, run_id);
  if (!run) return "alive";
  return fmt::format("{} {}", to_string(run->verdict), run->reason);
}

void ReconcilerFixture::expect_sums(const PassReport& report) {
  EXPECT_EQ(report.examined, report.alive + report.stuck + report.unknown + report.raced + report.foreign);
  std::uint64_t not_alive = 0;
  for (const auto& [reason, count] : report.reasons) not_alive += count;
  EXPECT_EQ(not_alive, report.examined - report.alive);
  EXPECT_EQ(report.truncated, report.runs.size() < not_alive);
  EXPECT_EQ(report.marked, report.dry_run || report.stopped ? 0 : report.stuck);
}

nlohmann::json ReconcilerFixture::saved_report(const std::string& pass_id) const {
  return nlohmann::json::parse(
      query(fmt::format("SELECT report FROM council_ex_reconciliations WHERE pass_id = '{}'", pass_id)));
}

}  // namespace run_recorder::testing
