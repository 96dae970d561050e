#include "recorder/probe.h"

#include "base/time.h"
#include "base/uuid.h"
#include "recorder/decision.h"

namespace run_recorder {
namespace {

Event event_of(EventKind kind, const char* type, const std::string& run_id) {
  Event event;
  event.kind = kind;
  event.type = type;
  event.run_id = run_id;
  event.id = run_id;
  event.received_at = now_utc();
  return event;
}

BatchWrite write_of(const BatchWrite& place, Event event, const Run* row, RecordedBy by) {
  std::vector<SpooledEvent> events;
  events.push_back({0, std::move(event), 0});
  Decision decision = decide(
      std::move(events), [row](std::string_view) { return row; }, {}, by);
  BatchWrite write = place;
  write.runs = std::move(decision.runs);
  write.history = std::move(decision.history);
  return write;
}

}  // namespace

std::vector<BatchWrite> probe_writes(const BatchWrite& place, const Run* like, RecordedBy by) {
  const std::string run_id = "run-recorder-probe-" + time_ordered_uuid(now_utc());
  Event started = event_of(EventKind::kStarted, "run_started", run_id);
  Event completed = event_of(EventKind::kCompleted, "run_completed", run_id);
  completed.id = run_id + "-end";
  completed.result = "{}";
  if (like) {
    started.council = like->council;
    started.attempt = like->attempt;
    if (like->input.loaded()) started.input = like->input.text();
    if (like->result.loaded() && like->result) completed.result = like->result.text();
  }
  std::vector<BatchWrite> writes;
  writes.push_back(write_of(place, std::move(started), nullptr, by));
  const Run row = writes.front().runs.front().after;
  writes.push_back(write_of(place, std::move(completed), &row, by));
  writes.back().runs.front().fields_changed = true;
  return writes;
}

}  // namespace run_recorder
