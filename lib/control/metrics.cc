#include "control/metrics.h"

#include <algorithm>
#include <array>

#include "control/council_metrics.h"
#include "control/expectation_metrics.h"
#include "control/samples.h"

namespace run_recorder {
namespace {

// What a counter's label may be from the start on: increase() does not see the first value of a series that comes
// with it. The others are rare, or nobody's to know.
constexpr std::array<std::string_view, 4> kLifecycleTypes{"run_queued", "run_started", "run_completed", "run_failed"};
constexpr std::array<std::string_view, 14> kStoreErrors{"23505",    "25006",   "40001",       "40P01", "42501",
                                                        "53100",    "53300",   "55P03",       "57014", "57P01",
                                                        "in_doubt", "refused", "unavailable", "data"};

// One sample for each known value of a label, 0 where it was not counted, then for the others.
template <class Known, class Counts>
void add_counts(Samples& out, const Known& known, const Counts& counts, std::string_view name,
                const std::string& labels = {}) {
  for (const std::string_view value : known) {
    const auto found = counts.find(std::string(value));
    out.add(found == counts.end() ? 0 : found->second, label(name, value) + labels);
  }
  for (const auto& [value, count] : counts) {
    if (std::ranges::find(known, value) == std::ranges::end(known)) out.add(count, label(name, value) + labels);
  }
}

void write_received(Samples& out, const Snapshot& now) {
  constexpr std::array<std::string_view, 0> kNone{};
  add_counts(out, kLifecycleTypes, now.server.types, "type", "," + label("outcome", "accepted"));
  add_counts(out, kNone, now.server.excluded_types, "type", "," + label("outcome", "excluded"));
}

void write_accepting(Samples& out, const Snapshot& now) {
  const Acceptance::State state = now.acceptance.state;
  out.add(state == Acceptance::State::kRefusing ? 0 : 1, label("events", "lifecycle"));
  out.add(state == Acceptance::State::kAccepting ? 1 : 0, label("events", "other"));
}

void write_lines(Samples& out, const Snapshot& now) {
  out.add(now.server.accepted, label("outcome", "accepted"));
  out.add(now.server.excluded, label("outcome", "excluded"));
  for (std::size_t i = 0; i < now.server.refused.size(); ++i) {
    out.add(now.server.refused[i], label("outcome", to_string(static_cast<RefusalCode>(i))));
  }
}

void write_ack_latency(Samples& out, const Snapshot& now) {
  out.add_histogram(ServerCounters::kAckBounds, now.server.ack_buckets, now.server.ack_sum);
}

void write_refused_connections(Samples& out, const Snapshot& now) {
  out.add(now.server.connections_forbidden, label("reason", "forbidden"));
  out.add(now.server.connections_over_limit, label("reason", "limit"));
  out.add(now.server.closed_unread, label("reason", "unread_answers"));
}

void write_ledger(Samples& out, const Snapshot& now) {
  const Ledger& ledger = now.recorder.ledger;
  out.add(now.recorder.accepted, label("account", "accepted"));
  out.add(ledger.applied, label("account", "applied"));
  out.add(ledger.duplicate, label("account", "duplicate"));
  out.add(now.recorder.waiting, label("account", "waiting"));
  out.add(ledger.dead_letters, label("account", "dead_letters"));
  out.add(ledger.dead_letters_removed, label("account", "dead_letters_removed"));
}

void write_oldest_age(Samples& out, const Snapshot& now) {
  const auto age = now.oldest_waiting ? now.now - *now.oldest_waiting : Timestamp::duration{0};
  out.add(seconds(std::max<std::chrono::microseconds>(age, std::chrono::microseconds{0})));
}

void write_batches(Samples& out, const Snapshot& now) {
  for (std::size_t i = 0; i < kBatchBounds.size(); ++i) {
    out.suffixed("_bucket", now.recorder.batch_sizes[i], fmt::format("le=\"{}\"", kBatchBounds[i]));
  }
  out.suffixed("_bucket", now.recorder.batch_sizes.back(), "le=\"+Inf\"");
  out.suffixed("_sum", now.recorder.batch_events);
  out.suffixed("_count", now.recorder.batches);
}

bool has_reconciled(const Snapshot& now) {
  return now.reconciler.last_good_at.has_value();
}

bool has_usage(const Snapshot& now) {
  return now.usage.has_value();
}

using Out = Samples;
using Now = Snapshot;

constexpr Metric kMetrics[] = {
    {"build_info", "gauge", "Version of the daemon.",
     [](Out& out, const Now& now) { out.add(1, label("version", now.version)); }},
    {"start_time_seconds", "gauge", "When the daemon started, as seconds since 1970.",
     [](Out& out, const Now& now) { out.add(seconds(now.started_at)); }},
    {"accepting", "gauge", "1 when events are accepted: those of the four lifecycle types, and all others.",
     write_accepting},
    {"received_events_total", "counter",
     "Valid events since the start of the daemon, by type and whether they were accepted or excluded.",
     write_received},
    {"lines_total", "counter", "Lines read since the start of the daemon, by outcome.", write_lines},
    {"ack_latency_seconds", "histogram", "From reading an event to handing over its acknowledgement.",
     write_ack_latency},
    {"connections", "gauge", "Open connections of workers.",
     [](Out& out, const Now& now) { out.add(now.server.connections_open); }},
    {"connections_limit", "gauge",
     "Limit of worker connections; an eighth more is reserved for users and processes with few.",
     [](Out& out, const Now& now) { out.add(now.server.connections_limit); }},
    {"connections_opened_total", "counter", "Connections of workers that were opened.",
     [](Out& out, const Now& now) { out.add(now.server.connections_total); }},
    {"connections_refused_total", "counter", "Connections of workers that were turned away or cut, by reason.",
     write_refused_connections},
    {"watched_processes", "gauge", "Worker processes being watched.",
     [](Out& out, const Now& now) { out.add(now.processes.watched); }},
    {"watched_processes_limit", "gauge", "Limit of watched processes.",
     [](Out& out, const Now& now) { out.add(now.processes.max); }},
    {"unwatched_processes_total", "counter", "Processes that could not be watched; the next pass finds their end.",
     [](Out& out, const Now& now) { out.add(now.processes.unwatched); }},
    {"http_connections", "gauge", "Open connections of the HTTP listeners.",
     [](Out& out, const Now& now) {
       out.add(now.http.control.open, label("listener", "control"));
       out.add(now.http.metrics.open, label("listener", "metrics"));
     }},
    {"http_connections_refused_total", "counter", "Connections that an HTTP listener answered with 503.",
     [](Out& out, const Now& now) {
       out.add(now.http.control.refused, label("listener", "control"));
       out.add(now.http.metrics.refused, label("listener", "metrics"));
     }},
    {"metrics_listening", "gauge", "1 when [metrics] listen is served, 0 while its address cannot be had.",
     [](Out& out, const Now& now) { out.add(now.http.metrics_listening.error.empty() ? 1 : 0); },
     [](const Now& now) { return !now.http.metrics_listening.listen.empty(); }},
    {"log_lines_dropped_total", "counter", "Lines of the log that nobody read or that could not be written.",
     [](Out& out, const Now& now) { out.add(now.log.lines_dropped); }},
    {"ledger_events", "gauge",
     "What became of every event this recorder ever accepted; accepted is the sum of the others.", write_ledger},
    {"dead_letters", "gauge", "Events the database refuses; see run-recorder dead-letters list.",
     [](Out& out, const Now& now) { out.add(now.recorder.ledger.dead_letters); }},
    {"conflicts", "gauge", "Applied events that contradicted their run's row.",
     [](Out& out, const Now& now) { out.add(now.recorder.ledger.conflicts); }},
    {"forgotten_events_total", "counter", "Events the database forgot and the spool no longer kept.",
     [](Out& out, const Now& now) { out.add(now.recorder.forgotten); }},
    {"damaged_records_total", "counter", "Records of the spool that could not be read.",
     [](Out& out, const Now& now) { out.add(now.recorder.damaged); }},
    {"spool_events", "gauge", "Events in the spool that are not applied yet.",
     [](Out& out, const Now& now) { out.add(now.recorder.waiting); }},
    {"spool_oldest_age_seconds", "gauge",
     "How long ago the oldest event that is not applied yet was received; 0 where none waits.", write_oldest_age},
    {"spool_bytes", "gauge", "Bytes of events in the spool, not applied yet or kept after that.",
     [](Out& out, const Now& now) {
       out.add(now.spool.pending_bytes, label("state", "pending"));
       out.add(now.spool.kept_bytes, label("state", "kept"));
     }},
    {"spool_max_bytes", "gauge", "How many bytes of events not yet applied the spool may hold.",
     [](Out& out, const Now& now) { out.add(now.acceptance.room.max_bytes); }},
    {"spool_disk_free_bytes", "gauge", "Bytes free on the file system of the spool.",
     [](Out& out, const Now& now) { out.add(*now.acceptance.room.free_bytes); },
     [](const Now& now) { return now.acceptance.room.free_bytes.has_value(); }},
    {"spool_min_free_bytes", "gauge",
     "Events are refused where fewer bytes are free on the file system of the spool.",
     [](Out& out, const Now& now) { out.add(now.acceptance.room.min_free); }},
    {"spool_failed", "gauge", "1 when a sync failed, or the files are gone, and nothing is accepted until a restart.",
     [](Out& out, const Now& now) { out.add(now.spool.failed ? 1 : 0); }},
    {"database_up", "gauge", "1 when the database is reachable and usable.",
     [](Out& out, const Now& now) { out.add(now.recorder.database == DatabaseState::kUp ? 1 : 0); }},
    {"database_indexes_missing", "gauge", "1 while indexes are missing or being built.",
     [](Out& out, const Now& now) { out.add(now.recorder.waiting_for ? 1 : 0); }},
    {"database_reconnects_total", "counter", "How often the database was reached again.",
     [](Out& out, const Now& now) { out.add(now.recorder.reconnects); }},
    {"store_errors_total", "counter", "Errors of the database, by SQLSTATE or kind.",
     [](Out& out, const Now& now) { add_counts(out, kStoreErrors, now.recorder.errors, "kind"); }},
    {"batch_events", "histogram", "Events per transaction.", write_batches},
    {"pruned_runs_total", "counter", "Finished runs removed past their retention.",
     [](Out& out, const Now& now) { out.add(now.pruner.runs); }},
    {"pruned_events_total", "counter", "Entries of the history removed with their runs.",
     [](Out& out, const Now& now) { out.add(now.pruner.events); }},
    {"removed_rows_total", "counter", "Rows of the recorder's own tables removed past their limits.",
     [](Out& out, const Now& now) {
       out.add(now.pruner.rows.passes, label("table", "reconciliations"));
       out.add(now.pruner.rows.positions, label("table", "positions"));
       out.add(now.pruner.rows.recorders, label("table", "recorders"));
       out.add(now.pruner.rows.run_ids, label("table", "pruned"));
       out.add(now.pruner.rows.findings, label("table", "findings"));
     }},
    {"retention_failures_total", "counter", "Regular passes of the retention that failed.",
     [](Out& out, const Now& now) { out.add(now.pruner.failures); }},
    {"retention_failing", "gauge", "1 when the latest regular pass of the retention failed.",
     [](Out& out, const Now& now) { out.add(now.pruner.failing ? 1 : 0); }},
    {"last_retention_timestamp_seconds", "gauge",
     "When the last regular pass of the retention ended, as seconds since 1970.",
     [](Out& out, const Now& now) { out.add(seconds(*now.pruner.last_at)); },
     [](const Now& now) { return now.pruner.last_at.has_value(); }},
    {"runs_counted_limit", "gauge",
     "Rows are counted up to this: a number of it in runs or council_running means that many or more, and beside so many "
     "rows the completed ones are an estimate.",
     [](Out& out, const Now&) { out.add(kCountedRows); }},
    {"runs", "gauge", "Rows by status, as last counted, up to runs_counted_limit of each.",
     [](Out& out, const Now& now) {
       for (const auto& [status, count] : *now.reconciler.runs_by_status)
         out.add(count, label("status", to_string(status)));
     },
     [](const Now& now) { return now.reconciler.runs_by_status.has_value(); }},
    {"reconciliations_total", "counter", "Passes of reconciliation, by outcome.",
     [](Out& out, const Now& now) {
       out.add(now.reconciler.passes - now.reconciler.stopped, label("outcome", "finished"));
       out.add(now.reconciler.stopped, label("outcome", "stopped"));
       out.add(now.reconciler.failures, label("outcome", "failed"));
     }},
    {"findings_total", "counter", "Rows that passes found not alive, by reason.",
     [](Out& out, const Now& now) { add_counts(out, kReasons, now.reconciler.findings, "reason"); }},
    {"last_reconciliation_timestamp_seconds", "gauge", "When the last pass ended, as seconds since 1970.",
     [](Out& out, const Now& now) { out.add(seconds(*now.reconciler.last_good_at)); }, has_reconciled},
    {"last_reconciliation_age_seconds", "gauge", "How long ago the last pass ended.",
     [](Out& out, const Now& now) { out.add(seconds(now.now) - seconds(*now.reconciler.last_good_at)); },
     has_reconciled},
    {"reconciliation_stopped", "gauge",
     "1 where the last pass over all rows would have marked more than max_stuck, and marked none.",
     [](Out& out, const Now& now) { out.add(now.reconciler.last->stopped ? 1 : 0); },
     [](const Now& now) { return now.reconciler.last.has_value(); }},
    {"council_starts_total", "counter", "Runs that started, as this daemon recorded, by council (a run's name).",
     write_council_starts},
    {"council_runs_total", "counter",
     "Ends of runs that this daemon recorded, by council (a run's name) and outcome.", write_council_ends},
    {"council_running", "gauge", "Rows that say running, as last counted, by council (a run's name).",
     write_council_running, has_counted_councils},
    {"council_last_start_timestamp_seconds", "gauge",
     "When a run of the council (a run's name) started last, as seconds since 1970.", write_council_last_start},
    {"council_last_success_timestamp_seconds", "gauge",
     "When a run of the council (a run's name) completed last, as seconds since 1970.", write_council_last_success},
    {"council_duration_seconds", "histogram",
     "From start to end of runs that completed or failed, by council (a run's name).", write_council_durations},
    {"open_findings", "gauge", "Findings of expectations that are not ended, at the last look, by kind.",
     write_open_findings},
    {"opened_findings_total", "counter", "Findings of expectations that this daemon wrote, by kind.",
     write_opened_findings},
    {"learned_overlong_runs", "gauge", "Runs that last far longer than their council's runs did, by [expect] learn.",
     [](Out& out, const Now& now) { out.add(now.expectations.learned_open); }},
    {"expectations_failing", "gauge", "1 when expectations could not be judged at the last look.",
     [](Out& out, const Now& now) { out.add(now.expectations.failing ? 1 : 0); }},
    {"expectation_missed", "gauge", "1 while a run that should have started has not, by expectation.",
     write_expectations_missed, has_expectations},
    {"expectation_overlong_runs", "gauge", "Runs that last longer than allowed, by expectation.",
     write_expectations_overlong, has_expectations},
    {"expectation_last_start_timestamp_seconds", "gauge",
     "When a run that fits the expectation started last, as seconds since 1970.", write_expectations_last_start,
     has_expectations},
    {"expectation_next_due_timestamp_seconds", "gauge",
     "When the next start is due by the expectation, as seconds since 1970.", write_expectations_next_due,
     has_expectations},
    {"process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
     [](Out& out, const Now& now) { out.add(seconds(now.usage->processor_time)); }, has_usage, Prefix::kNone},
    {"process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
     [](Out& out, const Now& now) { out.add(*now.usage->virtual_bytes); },
     [](const Now& now) { return now.usage && now.usage->virtual_bytes; }, Prefix::kNone},
    {"process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
     [](Out& out, const Now& now) { out.add(*now.usage->resident_bytes); },
     [](const Now& now) { return now.usage && now.usage->resident_bytes; }, Prefix::kNone},
    {"process_open_fds", "gauge", "Number of open file descriptors.",
     [](Out& out, const Now& now) { out.add(*now.usage->open_files); },
     [](const Now& now) { return now.usage && now.usage->open_files; }, Prefix::kNone},
    {"process_max_fds", "gauge", "Maximum number of open file descriptors.",
     [](Out& out, const Now& now) { out.add(*now.usage->max_files); },
     [](const Now& now) { return now.usage && now.usage->max_files; }, Prefix::kNone},
    {"process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
     [](Out& out, const Now& now) { out.add(seconds(*now.usage->started_at)); },
     [](const Now& now) { return now.usage && now.usage->started_at; }, Prefix::kNone},
};

}  // namespace

std::string full_name(const Metric& metric) {
  return fmt::format("{}{}", metric.prefix == Prefix::kOurs ? "run_recorder_" : "", metric.name);
}

std::span<const Metric> metrics() {
  return kMetrics;
}

std::string metrics_text(const Snapshot& snapshot) {
  Samples out;
  for (const Metric& metric : metrics()) {
    if (metric.shown != nullptr && !metric.shown(snapshot)) continue;
    out.begin(metric);
    metric.write(out, snapshot);
  }
  return std::move(out).take();
}

}  // namespace run_recorder
