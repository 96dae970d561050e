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
                   {"trigger", to_string(last.trigger)},
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

// Sizes in bytes; as SpoolRoom has them.
Json accepting_json(const Acceptance& acceptance) {
  const auto text_or_null = [](std::string_view text) { return text.empty() ? Json() : Json(std::string(text)); };
  const SpoolRoom& room = acceptance.room;
  return {{"state", to_string(acceptance.state)},
          {"reason", text_or_null(to_string(acceptance.reason))},
          {"message", text_or_null(in_words(acceptance))},
          {"limit", text_or_null(limit_of(acceptance.reason))},
          {"since", format_rfc3339(acceptance.since)},
          {"path", room.path.string()},
          {"bytes", room.pending_bytes},
          {"allowed_bytes", room.allowed_bytes},
          {"max_bytes", room.max_bytes},
          {"free_bytes", room.free_bytes ? Json(*room.free_bytes) : Json()},
          {"min_free", room.min_free},
          {"disk_low", acceptance.disk_low}};
}

Json metrics_json(const MetricsListening& metrics) {
  if (metrics.listen.empty()) return {{"listen", nullptr}, {"state", "off"}, {"error", nullptr}};
  return {{"listen", metrics.listen},
          {"state", metrics.error.empty() ? "listening" : "not_listening"},
          {"error", metrics.error.empty() ? Json() : Json(metrics.error)}};
}

std::string acceptance_sentence(const Acceptance& acceptance) {
  switch (acceptance.state) {
    case Acceptance::State::kAccepting:
      return acceptance.disk_low ? "ingesting; the disk runs low: " + disk_in_words(acceptance.room) : "ingesting";
    case Acceptance::State::kLifecycleOnly:
      return "ingesting lifecycle events only: " + in_words(acceptance);
    case Acceptance::State::kRefusing:
      return "not ingesting: " + in_words(acceptance);
  }
  return {};
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
  out["accepting"] = accepting_json(snapshot.acceptance);
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
  out["metrics"] = metrics_json(snapshot.http.metrics_listening);
  out["reload_refused"] = snapshot.reload_refused.empty() ? Json() : Json(snapshot.reload_refused);
  out["log_lines_dropped"] = snapshot.log.lines_dropped;
  out["database"] = {{"state", to_string(recorder.database)},
                     {"url", snapshot.database_url},
                     {"error", recorder.database_error.empty() ? Json() : Json(recorder.database_error)},
                     {"since", time_or_null(recorder.database_since)},
                     {"waiting_for", index_wait_json(recorder.waiting_for)},
                     {"reconnects", recorder.reconnects}};
  out["spool"] = {{"path", snapshot.spool_path},
                  {"first_seq", snapshot.spool.first_seq},
                  {"last_seq", snapshot.spool.last_seq},
                  {"pending_bytes", snapshot.spool.pending_bytes},
                  {"kept_bytes", snapshot.spool.kept_bytes},
                  {"max_bytes", snapshot.acceptance.room.max_bytes},
                  {"segments", snapshot.spool.segments},
                  {"oldest_at", time_or_null(snapshot.oldest_waiting)},
                  {"failed", snapshot.spool.failed},
                  {"failure", snapshot.spool.failure.empty() ? Json() : Json(snapshot.spool.failure)}};
  out["reconciliation"] = reconciliation_json(snapshot.reconciler);
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string status_sentence(const Snapshot& snapshot) {
  std::string sentence = acceptance_sentence(snapshot.acceptance);
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
  if (!snapshot.reload_refused.empty()) sentence += "; reload refused: " + snapshot.reload_refused;
  if (const MetricsListening& metrics = snapshot.http.metrics_listening; !metrics.error.empty()) {
    sentence += "; metrics are not served: " + metrics.error;
  }
  if (snapshot.log.stalled) sentence += "; the log is not read";
  const ReconcilerStatus& reconciler = snapshot.reconciler;
  if (!reconciler.last || !reconciler.last_good_at) return sentence + "; no reconciliation yet";
  return sentence + fmt::format("; last reconciliation {} ago: {} stuck",
                                age_in_words(snapshot.now - *reconciler.last_good_at), reconciler.last->stuck);
}

}  // namespace run_recorder
