// The metrics as Prometheus reads them, and that docs/operations.md lists the same.
#include "control/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>

#include "document.h"
#include "snapshot_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricTable, MatchesTheDocument) {
  std::set<std::string> documented;
  const std::regex name(R"(`([a-z_]+)(\{[a-z,]+\})?`)");
  for (const std::string& cell : lines_of("docs/operations.md", "## Metrics", std::regex(R"(^\| `[^|]*\|)"))) {
    for (std::sregex_iterator found(cell.begin(), cell.end(), name), end; found != end; ++found) {
      EXPECT_TRUE(documented.insert((*found)[1]).second) << (*found)[1] << " comes twice";
    }
  }
  std::set<std::string> served;
  for (const Metric& metric : metrics()) served.emplace(metric.name);
  EXPECT_EQ(documented, served);
}

TEST(MetricsText, HasAHelpAndATypeBeforeEveryFamilyAndEachOnce) {
  Snapshot made = snapshot();
  made.reconciler.last = report();
  made.reconciler.last_good_at = made.now - 3min;
  made.reconciler.findings = {{"process_gone", 2}};
  made.recorder.errors = {{"23505", 1}};
  made.server.types = {{"run_started", 3}, {"odd\"\\\nname", 1}};
  made.reconciler.runs_by_status = {{Status::kRunning, 4}};
  std::istringstream text(metrics_text(made));
  const std::regex sample(
      R"(^(run_recorder_[a-z_]+?)(_bucket|_sum|_count)?(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? [-+.e0-9]+$)");
  std::set<std::string> families;
  std::string family;
  std::string line;
  while (std::getline(text, line)) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family << " comes twice";
      ASSERT_TRUE(std::getline(text, line));
      EXPECT_TRUE(line.starts_with("# TYPE " + family + " ")) << line;
      continue;
    }
    EXPECT_TRUE(std::regex_match(line, sample)) << line;
    EXPECT_TRUE(line.starts_with(family)) << line << " in " << family;
  }
  for (const char* name :
       {"ledger_events", "dead_letters", "spool_bytes", "database_up", "batch_events", "reconciliations_total",
        "findings_total", "ack_latency_seconds", "runs", "spool_oldest_age_seconds"}) {
    EXPECT_TRUE(families.contains(std::string("run_recorder_") + name)) << name;
  }
}

TEST(MetricsText, SaysWhichEventsAreAcceptedAndWhatTheDiskHas) {
  Snapshot made = snapshot();
  made.acceptance.state = Acceptance::State::kLifecycleOnly;
  made.acceptance.room.min_free = 2'048;
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_accepting{events=\"lifecycle\"} 1\n"
                                            "run_recorder_accepting{events=\"other\"} 0\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_spool_min_free_bytes 2048\n"));
  EXPECT_THAT(metrics_text(made), Not(HasSubstr("spool_disk_free_bytes"))) << "not known";
  made.acceptance.state = Acceptance::State::kRefusing;
  made.acceptance.room.free_bytes = 1'024;
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_accepting{events=\"lifecycle\"} 0\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_spool_disk_free_bytes 1024\n"));
}

TEST(MetricsText, SaysWhetherItsAddressIsServedWhereThereIsOne) {
  Snapshot made = snapshot();
  EXPECT_THAT(metrics_text(made), Not(HasSubstr("metrics_listening")));
  made.http.metrics_listening.listen = "127.0.0.1:9464";
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_metrics_listening 1\n"));
  made.http.metrics_listening.error = "taken";
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_metrics_listening 0\n"));
}

TEST(MetricsText, CountsHistogramsCumulatively) {
  Snapshot made = snapshot();
  made.server.ack_buckets[0] = 2;
  made.server.ack_buckets[1] = 3;
  made.server.ack_buckets.back() = 1;
  const std::string text = metrics_text(made);
  EXPECT_THAT(text, HasSubstr("ack_latency_seconds_bucket{le=\"+Inf\"} 6\n"));
  EXPECT_THAT(text, HasSubstr("ack_latency_seconds_count 6\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_ledger_events{account=\"accepted\"} 19\n"));
}

TEST(MetricsText, CountsWatchedProcesses) {
  Snapshot made = snapshot();
  made.processes = {.max = 10, .watched = 3, .ended = 4, .unwatched = 2};
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_watched_processes 3\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_watched_processes_limit 10\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_unwatched_processes_total 2\n"));
}

TEST(MetricsText, CountsRunsByCouncil) {
  Snapshot made = snapshot();
  CouncilTotals totals;
  totals.council = "Shop \"A\"";
  totals.starts = 5;
  totals.ends = {3, 1, 0, 0};
  totals.last_success = made.now - 1h;
  totals.durations[1] = 3;
  totals.durations.back() = 1;
  totals.duration_sum = 90s;
  made.recorder.councils = {totals};
  const std::string text = metrics_text(made);
  const std::string council = R"(council="Shop \"A\"")";
  EXPECT_THAT(text, HasSubstr("run_recorder_council_starts_total{" + council + "} 5\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_runs_total{" + council + ",outcome=\"completed\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_runs_total{" + council + ",outcome=\"stuck\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_last_success_timestamp_seconds{" + council + "} 1772366400\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_duration_seconds_bucket{" + council + ",le=\"5\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_duration_seconds_bucket{" + council + ",le=\"86400\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_duration_seconds_bucket{" + council + ",le=\"+Inf\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_council_duration_seconds_sum{" + council + "} 90\n"));
  EXPECT_THAT(text, Not(HasSubstr("run_recorder_council_running"))) << "not counted yet";
  EXPECT_THAT(text, Not(HasSubstr("council_last_start_timestamp_seconds{"))) << "none is known";
  made.recorder.councils[0].running = 2;
  EXPECT_THAT(metrics_text(made), HasSubstr("run_recorder_council_running{" + council + "} 2\n"));
}

TEST(MetricsText, HasWhatMayBeCountedFromTheStart) {
  Snapshot made = snapshot();
  std::string text = metrics_text(made);
  EXPECT_THAT(text, HasSubstr("run_recorder_findings_total{reason=\"process_gone\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_store_errors_total{kind=\"57014\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("received_events_total{type=\"run_failed\",outcome=\"accepted\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_reconciliations_total{outcome=\"stopped\"} 0\n"));
  made.reconciler.findings = {{"process_gone", 2}};
  made.recorder.errors = {{"57014", 3}, {"XX001", 1}};
  made.server.types = {{"run_failed", 4}, {"odd", 5}};
  text = metrics_text(made);
  EXPECT_THAT(text, HasSubstr("run_recorder_findings_total{reason=\"process_gone\"} 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("reason=\"process_gone\"} 0\n")));
  EXPECT_THAT(text, HasSubstr("run_recorder_store_errors_total{kind=\"57014\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("run_recorder_store_errors_total{kind=\"XX001\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("received_events_total{type=\"run_failed\",outcome=\"accepted\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("received_events_total{type=\"odd\",outcome=\"accepted\"} 5\n"));
}

TEST(MetricsText, TellsPassesThatWereStoppedFromThoseThatFinished) {
  Snapshot made = snapshot();
  EXPECT_THAT(metrics_text(made), Not(HasSubstr("reconciliation_stopped")));
  made.reconciler.passes = 3;
  made.reconciler.stopped = 1;
  made.reconciler.last = report();
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_reconciliation_stopped 0\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("run_recorder_reconciliations_total{outcome=\"finished\"} 2\n"
                                            "run_recorder_reconciliations_total{outcome=\"stopped\"} 1\n"));
  made.reconciler.last->stopped = true;
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_reconciliation_stopped 1\n"));
}

TEST(MetricsText, SaysWhetherTheRetentionWorks) {
  Snapshot made = snapshot();
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_retention_failing 0\n"));
  EXPECT_THAT(metrics_text(made), Not(HasSubstr("last_retention_timestamp_seconds"))) << "it did not come yet";
  made.pruner = {.failures = 2, .last_at = made.now - 1h, .failing = true};
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_retention_failures_total 2\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_retention_failing 1\n"));
  EXPECT_THAT(metrics_text(made), HasSubstr("\nrun_recorder_last_retention_timestamp_seconds 1772366400\n"));
}

TEST(MetricsText, NamesWhatTheProcessTakesAsAllExportersDo) {
  Snapshot made = snapshot();
  EXPECT_THAT(metrics_text(made), Not(HasSubstr("process_cpu")));
  made.usage = OwnUsage{.processor_time = 1'500ms,
                        .virtual_bytes = 8'192,
                        .resident_bytes = 4'096,
                        .open_files = 7,
                        .max_files = {},
                        .started_at = made.started_at};
  const std::string text = metrics_text(made);
  EXPECT_THAT(text, HasSubstr("\nprocess_cpu_seconds_total 1.5\n"));
  EXPECT_THAT(text, HasSubstr("\nprocess_resident_memory_bytes 4096\n"));
  EXPECT_THAT(text, HasSubstr("\nprocess_virtual_memory_bytes 8192\n"));
  EXPECT_THAT(text, HasSubstr("\nprocess_open_fds 7\n"));
  EXPECT_THAT(text, HasSubstr("\nprocess_start_time_seconds 1772366400\n"));
  EXPECT_THAT(text, Not(HasSubstr("process_max_fds"))) << "there is no limit";
}

TEST(MetricsText, LeavesOutWhatHasNoValueYet) {
  EXPECT_EQ(metrics_text(snapshot()).find("last_reconciliation"), std::string::npos);
  EXPECT_EQ(metrics_text(snapshot()).find("run_recorder_runs{"), std::string::npos);
}

}  // namespace
}  // namespace run_recorder::testing
