#include "control/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace run_recorder {

// The samples of one metric after the other.
class Samples {
 public:
  void begin(const Metric& metric) {
    name_ = fmt::format("run_recorder_{}", metric.name);
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name_, metric.help, name_, metric.type);
  }
  template <class T>
  void add(T value, std::string_view labels = {}) {
    suffixed("", value, labels);
  }
  // A part of a histogram.
  template <class T>
  void suffixed(std::string_view suffix, T value, std::string_view labels = {}) {
    text_ += labels.empty() ? fmt::format("{}{} {}\n", name_, suffix, value)
                            : fmt::format("{}{}{{{}}} {}\n", name_, suffix, labels, value);
  }
  std::string take() && { return std::move(text_); }

 private:
  std::string name_;
  std::string text_;
};

namespace {

// A label's value with what the format needs escaped.
std::string label(std::string_view name, std::string_view value) {
  std::string out = fmt::format("{}=\"", name);
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out + '"';
}

double seconds(std::chrono::microseconds time) {
  return static_cast<double>(time.count()) / 1e6;
}

double seconds(Timestamp time) {
  return seconds(std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()));
}

void write_received(Samples& out, const Snapshot& now) {
  const auto add = [&out](const ServerCounters::ByType& types, std::string_view outcome) {
    for (const auto& [type, count] : types) out.add(count, label("type", type) + "," + label("outcome", outcome));
  };
  add(now.server.types, "accepted");
  add(now.server.excluded_types, "excluded");
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
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < ServerCounters::kAckBounds.size(); ++i) {
    below += now.server.ack_buckets[i];
    out.suffixed("_bucket", below, fmt::format("le=\"{}\"", seconds(ServerCounters::kAckBounds[i])));
  }
  below += now.server.ack_buckets.back();
  out.suffixed("_bucket", below, "le=\"+Inf\"");
  out.suffixed("_sum", seconds(now.server.ack_sum));
  out.suffixed("_count", below);
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
     [](Out& out, const Now& now) {
       for (const auto& [kind, count] : now.recorder.errors) out.add(count, label("kind", kind));
     }},
    {"batch_events", "histogram", "Events per transaction.", write_batches},
    {"pruned_runs_total", "counter", "Finished runs removed past their retention.",
     [](Out& out, const Now& now) { out.add(now.pruner.runs); }},
    {"pruned_events_total", "counter", "Entries of the history removed with their runs.",
     [](Out& out, const Now& now) { out.add(now.pruner.events); }},
    {"runs", "gauge", "Rows by status, as last counted.",
     [](Out& out, const Now& now) {
       for (const auto& [status, count] : *now.reconciler.runs_by_status)
         out.add(count, label("status", to_string(status)));
     },
     [](const Now& now) { return now.reconciler.runs_by_status.has_value(); }},
    {"reconciliations_total", "counter", "Passes of reconciliation, by outcome.",
     [](Out& out, const Now& now) {
       out.add(now.reconciler.passes, label("outcome", "finished"));
       out.add(now.reconciler.failures, label("outcome", "failed"));
     }},
    {"findings_total", "counter", "Rows that passes found not alive, by reason.",
     [](Out& out, const Now& now) {
       for (const auto& [reason, count] : now.reconciler.findings) out.add(count, label("reason", reason));
     }},
    {"last_reconciliation_timestamp_seconds", "gauge", "When the last pass ended, as seconds since 1970.",
     [](Out& out, const Now& now) { out.add(seconds(*now.reconciler.last_good_at)); }, has_reconciled},
    {"last_reconciliation_age_seconds", "gauge", "How long ago the last pass ended.",
     [](Out& out, const Now& now) { out.add(seconds(now.now) - seconds(*now.reconciler.last_good_at)); },
     has_reconciled},
};

}  // namespace

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
