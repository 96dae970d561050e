#include "control/snapshot.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace run_recorder {
namespace {

using Json = nlohmann::ordered_json;

Json time_or_null(const std::optional<Timestamp>& time) {
  return time ? Json(format_rfc3339(*time)) : Json();
}

std::string age_in_words(std::chrono::microseconds age) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(age).count();
  if (seconds < 60) return fmt::format("{} s", std::max<std::int64_t>(seconds, 0));
  if (seconds < 3'600) return fmt::format("{} min", seconds / 60);
  if (seconds < 86'400) return fmt::format("{} h", seconds / 3'600);
  return fmt::format("{} d", seconds / 86'400);
}

Json refused_json(const ServerCounters& server) {
  Json refused = Json::object();
  for (std::size_t i = 0; i < server.refused.size(); ++i) {
    refused[std::string(to_string(static_cast<RefusalCode>(i)))] = server.refused[i];
  }
  return refused;
}

Json listener_json(const ListenerCounters& listener) {
  return {{"open", listener.open}, {"limit", listener.limit}, {"refused", listener.refused}};
}

Json reconciliation_json(const ReconcilerStatus& reconciler) {
  Json out;
  out["running"] = reconciler.running;
  out["boot_done"] = reconciler.boot_done;
  out["passes"] = reconciler.passes;
  out["failures"] = reconciler.failures;
  out["under_way"] = nullptr;
  if (reconciler.under_way) {
    out["under_way"] = {{"pass_id", reconciler.under_way->pass_id},
                        {"examined", reconciler.under_way->examined},
                        {"marked", reconciler.under_way->marked}};
  }
  out["last"] = nullptr;
  if (reconciler.last) {
    const PassReport& last = *reconciler.last;
    Json reasons = Json::object();
    for (const auto& [reason, count] : last.reasons) reasons[reason] = count;
    out["last"] = {{"pass_id", last.pass_id},
                   {"trigger", last.trigger},
                   {"dry_run", last.dry_run},
                   {"stopped", last.stopped},
                   {"finished_at", format_rfc3339(last.finished_at)},
                   {"examined", last.examined},
                   {"alive", last.alive},
                   {"stuck", last.stuck},
                   {"unknown", last.unknown},
                   {"raced", last.raced},
                   {"foreign", last.foreign},
                   {"marked", last.marked},
                   {"deferred", last.deferred},
                   {"reasons", reasons}};
  }
  return out;
}

Json index_wait_json(const std::optional<IndexWait>& wait) {
  if (!wait) return Json();
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {{"indexes", wait->indexes},
          {"since", format_rfc3339(wait->since)},
          {"event_ids", wait->events_unique ? "unique" : "compared with the history"},
          {"held_up_by", text_or_null(wait->held_up_by)},
          {"error", text_or_null(wait->error)}};
}

// Prometheus' text format, one family after the other.
class Metrics {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = "run_recorder_" + std::string(name);
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name_, help, name_, type);
  }
  template <class T>
  void value(T number, std::string_view labels = {}) {
    text_ +=
        labels.empty() ? fmt::format("{} {}\n", name_, number) : fmt::format("{}{{{}}} {}\n", name_, labels, number);
  }
  template <class T>
  void suffixed(std::string_view suffix, T number, std::string_view labels = {}) {
    text_ += labels.empty() ? fmt::format("{}{} {}\n", name_, suffix, number)
                            : fmt::format("{}{}{{{}}} {}\n", name_, suffix, labels, number);
  }
  template <class T>
  void single(std::string_view name, std::string_view type, std::string_view help, T number) {
    family(name, type, help);
    value(number);
  }
  std::string take() && { return std::move(text_); }

 private:
  std::string name_;
  std::string text_;
};

// A label value with what the format needs escaped.
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

void ingest_metrics(Metrics& out, const Snapshot& snapshot) {
  const ServerCounters& server = snapshot.server;
  out.family("build_info", "gauge", "Version of the daemon.");
  out.value(1, label("version", snapshot.version));
  out.single("start_time_seconds", "gauge", "When the daemon started, as seconds since 1970.",
             static_cast<double>(snapshot.started_at.time_since_epoch().count()) / 1e6);
  out.family("received_events_total", "counter",
             "Valid events since the start of the daemon, by type and whether they were accepted or excluded.");
  const auto by_type = [&out](const ServerCounters::ByType& types, std::string_view outcome) {
    for (const auto& [type, count] : types) out.value(count, label("type", type) + "," + label("outcome", outcome));
  };
  by_type(server.types, "accepted");
  by_type(server.excluded_types, "excluded");
  out.family("lines_total", "counter", "Lines read since the start of the daemon, by outcome.");
  out.value(server.accepted, label("outcome", "accepted"));
  out.value(server.excluded, label("outcome", "excluded"));
  for (std::size_t i = 0; i < server.refused.size(); ++i) {
    out.value(server.refused[i], label("outcome", to_string(static_cast<RefusalCode>(i))));
  }
  out.family("ack_latency_seconds", "histogram", "From reading an event to handing over its acknowledgement.");
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < ServerCounters::kAckBounds.size(); ++i) {
    below += server.ack_buckets[i];
    out.suffixed("_bucket", below,
                 fmt::format("le=\"{}\"", static_cast<double>(ServerCounters::kAckBounds[i].count()) / 1e6));
  }
  below += server.ack_buckets.back();
  out.suffixed("_bucket", below, "le=\"+Inf\"");
  out.suffixed("_sum", static_cast<double>(server.ack_sum.count()) / 1e6);
  out.suffixed("_count", below);
  out.single("connections", "gauge", "Open connections of workers.", server.connections_open);
  out.single(
      "connections_limit", "gauge",
      "How many connections of workers are allowed, whoever has how many; an eighth more is for those with few.",
      server.connections_limit);
  out.single("connections_opened_total", "counter", "Connections of workers that were opened.",
             server.connections_total);
  out.family("connections_refused_total", "counter",
             "Connections of workers that were turned away or cut, by reason.");
  out.value(server.connections_forbidden, label("reason", "forbidden"));
  out.value(server.connections_over_limit, label("reason", "limit"));
  out.value(server.closed_unread, label("reason", "unread_answers"));
  out.single("watched_processes", "gauge", "Worker processes whose end would be seen at once.",
             snapshot.processes.watched);
  out.single("watched_processes_limit", "gauge", "How many processes may be watched.", snapshot.processes.max);
  out.single("unwatched_processes_total", "counter",
             "How often a process could not be watched; the next pass sees its end.", snapshot.processes.unwatched);
  out.family("http_connections", "gauge", "Open connections of the HTTP listeners.");
  out.value(snapshot.http.control.open, label("listener", "control"));
  out.value(snapshot.http.metrics.open, label("listener", "metrics"));
  out.family("http_connections_refused_total", "counter", "Connections that an HTTP listener had no room for.");
  out.value(snapshot.http.control.refused, label("listener", "control"));
  out.value(snapshot.http.metrics.refused, label("listener", "metrics"));
  out.single("log_lines_dropped_total", "counter", "Lines of the log that nobody read or that could not be written.",
             snapshot.log.lines_dropped);
}

void ledger_metrics(Metrics& out, const Snapshot& snapshot) {
  const RecorderStatus& recorder = snapshot.recorder;
  out.family("ledger_events", "gauge",
             "What became of every event this recorder ever accepted; accepted is the sum of the others.");
  out.value(recorder.accepted, label("account", "accepted"));
  out.value(recorder.ledger.applied, label("account", "applied"));
  out.value(recorder.ledger.duplicate, label("account", "duplicate"));
  out.value(recorder.waiting, label("account", "waiting"));
  out.value(recorder.ledger.dead_letters, label("account", "dead_letters"));
  out.value(recorder.ledger.dead_letters_removed, label("account", "dead_letters_removed"));
  out.single("dead_letters", "gauge", "Events the database refuses; see run-recorder dead-letters list.",
             recorder.ledger.dead_letters);
  out.single("conflicts", "gauge", "Applied events that contradicted their run's row.", recorder.ledger.conflicts);
  out.single("forgotten_events_total", "counter", "Events the database forgot and the spool no longer kept.",
             recorder.forgotten);
  out.single("damaged_records_total", "counter", "Records of the spool that could not be read.", recorder.damaged);
}

void spool_metrics(Metrics& out, const Snapshot& snapshot) {
  out.single("spool_events", "gauge", "Events in the spool that are not applied yet.", snapshot.recorder.waiting);
  const auto oldest_age = snapshot.oldest_waiting ? snapshot.now - *snapshot.oldest_waiting : Timestamp::duration{0};
  out.single("spool_oldest_age_seconds", "gauge",
             "How long ago the oldest event that is not applied yet was received; 0 where none waits.",
             static_cast<double>(std::max(oldest_age, Timestamp::duration{0}).count()) / 1e6);
  out.family("spool_bytes", "gauge", "Bytes of events in the spool, not applied yet or kept after that.");
  out.value(snapshot.spool.pending_bytes, label("state", "pending"));
  out.value(snapshot.spool.kept_bytes, label("state", "kept"));
  out.single("spool_max_bytes", "gauge", "How many bytes of events not yet applied the spool may hold.",
             snapshot.spool_max_bytes);
  out.single("spool_failed", "gauge",
             "1 when a sync failed, or the files are gone, and nothing is accepted until a restart.",
             snapshot.spool.failed ? 1 : 0);
}

void store_metrics(Metrics& out, const Snapshot& snapshot) {
  const RecorderStatus& recorder = snapshot.recorder;
  out.single("database_up", "gauge", "1 when the database is reachable and usable.",
             recorder.database == DatabaseState::kUp ? 1 : 0);
  out.single("database_indexes_missing", "gauge", "1 while indexes are missing or being built.",
             recorder.waiting_for ? 1 : 0);
  out.single("database_reconnects_total", "counter", "How often the database was reached again.",
             recorder.reconnects);
  out.family("store_errors_total", "counter", "Errors of the database, by SQLSTATE or kind.");
  for (const auto& [kind, count] : recorder.errors) out.value(count, label("kind", kind));
  out.family("batch_events", "histogram", "Events per transaction.");
  for (std::size_t i = 0; i < kBatchBounds.size(); ++i) {
    out.suffixed("_bucket", recorder.batch_sizes[i], fmt::format("le=\"{}\"", kBatchBounds[i]));
  }
  out.suffixed("_bucket", recorder.batch_sizes.back(), "le=\"+Inf\"");
  out.suffixed("_sum", recorder.batch_events);
  out.suffixed("_count", recorder.batches);
  out.single("pruned_runs_total", "counter", "Finished runs removed because their time was over.",
             snapshot.pruner.runs);
  out.single("pruned_events_total", "counter", "Entries of the history removed with their runs.",
             snapshot.pruner.events);
  if (!snapshot.reconciler.runs_by_status) return;
  out.family("runs", "gauge", "Rows by status, as last counted.");
  for (const auto& [status, count] : *snapshot.reconciler.runs_by_status)
    out.value(count, label("status", to_string(status)));
}

void reconciliation_metrics(Metrics& out, const Snapshot& snapshot) {
  const ReconcilerStatus& reconciler = snapshot.reconciler;
  out.family("reconciliations_total", "counter", "Passes of reconciliation, by outcome.");
  out.value(reconciler.passes, label("outcome", "finished"));
  out.value(reconciler.failures, label("outcome", "failed"));
  out.family("findings_total", "counter", "Rows that passes found not alive, by reason.");
  for (const auto& [reason, count] : reconciler.findings) out.value(count, label("reason", reason));
  if (!reconciler.last_good_at) return;
  const auto seconds = [](Timestamp time) { return static_cast<double>(time.time_since_epoch().count()) / 1e6; };
  out.single("last_reconciliation_timestamp_seconds", "gauge", "When the last pass ended, as seconds since 1970.",
             seconds(*reconciler.last_good_at));
  out.single("last_reconciliation_age_seconds", "gauge", "How long ago the last pass ended.",
             seconds(snapshot.now) - seconds(*reconciler.last_good_at));
}

}  // namespace

JsonText status_json(const Snapshot& snapshot) {
  const RecorderStatus& recorder = snapshot.recorder;
  const ServerCounters& server = snapshot.server;
  Json out;
  out["status"] = status_sentence(snapshot);
  out["version"] = snapshot.version;
  out["recorder"] = snapshot.recorder_id;
  out["host"] = snapshot.host;
  out["pid"] = snapshot.pid;
  out["started_at"] = format_rfc3339(snapshot.started_at);
  out["accepted"] = recorder.accepted;
  out["applied"] = recorder.ledger.applied;
  out["duplicate"] = recorder.ledger.duplicate;
  out["waiting"] = recorder.waiting;
  out["dead_letters"] = recorder.ledger.dead_letters;
  out["dead_letters_removed"] = recorder.ledger.dead_letters_removed;
  out["excluded"] = server.excluded;
  out["conflicts"] = recorder.ledger.conflicts;
  out["forgotten"] = recorder.forgotten;
  out["damaged"] = recorder.damaged;
  out["refused"] = refused_json(server);
  out["connections"] = {{"open", server.connections_open},       {"limit", server.connections_limit},
                        {"total", server.connections_total},     {"forbidden", server.connections_forbidden},
                        {"reserve", server.connections_reserve}, {"over_limit", server.connections_over_limit},
                        {"closed_unread", server.closed_unread}};
  out["processes"] = {{"watched", snapshot.processes.watched},
                      {"limit", snapshot.processes.max},
                      {"unwatched", snapshot.processes.unwatched}};
  out["listeners"] = {{"control", listener_json(snapshot.http.control)},
                      {"metrics", listener_json(snapshot.http.metrics)}};
  out["log_lines_dropped"] = snapshot.log.lines_dropped;
  out["database"] = {{"state", to_string(recorder.database)},
                     {"url", snapshot.database_url},
                     {"error", recorder.database_error.empty() ? Json() : Json(recorder.database_error)},
                     {"since", time_or_null(recorder.database_since)},
                     {"waiting_for", index_wait_json(recorder.waiting_for)},
                     {"reconnects", recorder.reconnects}};
  out["spool"] = {{"first_seq", snapshot.spool.first_seq},
                  {"last_seq", snapshot.spool.last_seq},
                  {"pending_bytes", snapshot.spool.pending_bytes},
                  {"kept_bytes", snapshot.spool.kept_bytes},
                  {"max_bytes", snapshot.spool_max_bytes},
                  {"segments", snapshot.spool.segments},
                  {"oldest_at", time_or_null(snapshot.oldest_waiting)},
                  {"failed", snapshot.spool.failed},
                  {"failure", snapshot.spool.failure.empty() ? Json() : Json(snapshot.spool.failure)}};
  out["reconciliation"] = reconciliation_json(snapshot.reconciler);
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string metrics_text(const Snapshot& snapshot) {
  Metrics out;
  ingest_metrics(out, snapshot);
  ledger_metrics(out, snapshot);
  spool_metrics(out, snapshot);
  store_metrics(out, snapshot);
  reconciliation_metrics(out, snapshot);
  return std::move(out).take();
}

std::string status_sentence(const Snapshot& snapshot) {
  std::string sentence = "ingesting";
  if (const std::string why = not_ready(snapshot); !why.empty()) sentence = "not ingesting: " + why;
  sentence += fmt::format("; {} in spool", snapshot.recorder.waiting);
  switch (snapshot.recorder.database) {
    case DatabaseState::kUp:
      break;
    case DatabaseState::kConnecting:
      sentence += "; connecting to the database";
      break;
    case DatabaseState::kAway:
      sentence += "; the database is away";
      break;
    case DatabaseState::kRefused:
      sentence += "; the database refuses this daemon";
      break;
  }
  if (const auto& wait = snapshot.recorder.waiting_for) {
    sentence += wait->held_up_by.empty() ? "; indexes are being built"
                                         : fmt::format("; indexes wait for {}", wait->held_up_by);
    if (!wait->error.empty()) sentence += "; an index cannot be built";
  }
  if (snapshot.recorder.ledger.dead_letters > 0) {
    const std::uint64_t letters = snapshot.recorder.ledger.dead_letters;
    sentence += fmt::format("; {} dead letter{}", letters, letters == 1 ? "" : "s");
  }
  if (snapshot.log.stands_still) sentence += "; the log is not read";
  const ReconcilerStatus& reconciler = snapshot.reconciler;
  if (!reconciler.last || !reconciler.last_good_at) return sentence + "; no reconciliation yet";
  return sentence + fmt::format("; last reconciliation {} ago: {} stuck",
                                age_in_words(snapshot.now - *reconciler.last_good_at), reconciler.last->stuck);
}

std::string not_ready(const Snapshot& snapshot) {
  if (snapshot.spool.failed) return "the spool failed: " + snapshot.spool.failure;
  if (!snapshot.server.spool_failure.empty()) return snapshot.server.spool_failure;
  if (snapshot.spool.pending_bytes >= snapshot.spool_max_bytes) return "the spool is full";
  if (snapshot.disk_full) return "the spool's file system is full: [spool] min_free is to be left free";
  return {};
}

}  // namespace run_recorder
