// The way in: see move.h.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/json_writer.h"
#include "control/move.h"
#include "control/row_from_json.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

using LineOutcome = ImportReport::Outcome;

constexpr std::size_t kMaxDepth = 600;  // what an event may nest, and its envelopes

std::string_view member_of(std::string_view object, std::string_view name) {
  for (const JsonMember& member : json_members(object)) {
    if (member.key == name) return member.value;
  }
  return "null";
}

Error refused(std::string message) {
  return Error{ErrorKind::kInvalid, std::move(message)};
}

Error differs() {
  return Error{ErrorKind::kConflict, "exists already and differs"};
}

// As JSON without the entries' ids, which each database gives by itself.
bool same_event(const StoredEvent& a, StoredEvent b) {
  b.id = a.id;
  return json_equal(event_json(a), event_json(b));
}

// How many of the entries are there already; kConflict where one is and differs.
Result<std::size_t> count_stored(Store& store, std::string_view run_id, std::span<const StoredEvent> events) {
  std::size_t stored = 0;
  while (stored < events.size()) {
    const std::int64_t before = events[stored].entry.seq - 1;
    const auto page = store.list_events(run_id, events.size() - stored, std::to_string(before));
    if (!page) return page.error();
    for (const StoredEvent& event : page->events) {
      if (!same_event(events[stored], event)) return differs();
      ++stored;
    }
    if (page->next.empty()) break;
  }
  return stored;
}

Result<LineOutcome> keep_part(Store& store, const std::string& run_id, std::span<const StoredEvent> events) {
  const auto stored = count_stored(store, run_id, events);
  if (!stored) return stored.error();
  if (*stored == events.size()) return LineOutcome::kKept;
  const auto kept = store.insert_history(run_id, events.subspan(*stored));
  if (!kept) return kept.error().kind == ErrorKind::kConflict ? differs() : kept.error();
  return LineOutcome::kKept;
}

Result<LineOutcome> import_run(Store& store, const Run& run, std::span<const StoredEvent> events) {
  const bool whole = events.empty() ? run.last_seq == 0 : events.front().entry.seq == 1;
  if (whole) {
    const auto added = store.insert_whole(run, events);
    if (!added) return added.error();
    if (*added) return LineOutcome::kImported;
  }
  const auto there = store.find_run(run.run_id);
  if (!there) return there.error();
  if (there->has_value()) {
    if (!json_equal(run_json(run, true), run_json(**there, true))) return differs();
    const auto stored = count_stored(store, run.run_id, events);
    if (!stored) return stored.error();
    return *stored == events.size() ? Result<LineOutcome>(LineOutcome::kPresent) : differs();
  }
  // The rest of its history is there, from its other parts or from an import that was interrupted.
  if (const auto kept = keep_part(store, run.run_id, events); !kept) return kept.error();
  const auto added = store.insert_row(run);
  if (!added) return added.error();
  return *added ? Result<LineOutcome>(LineOutcome::kImported) : differs();
}

Result<LineOutcome> take_run(Store& store, std::string_view line, std::string& run_id) {
  Run run;
  const auto read = read_row(member_of(line, "run"), run);
  run_id = run.run_id;
  if (!read) return read.error();
  if (member_of(line, "more") == "true") {
    return refused("more: only run-recorder import assembles a run in parts");
  }
  const auto events = read_events(member_of(line, "events"), run.run_id);
  if (!events) return events.error();
  const std::int64_t last = events->empty() ? 0 : events->back().entry.seq;
  if (last != run.last_seq) {
    return refused(fmt::format("last_seq: must be {}, the seq of its last event", last));
  }
  return import_run(store, run, *events);
}

Result<LineOutcome> take_part(Store& store, std::string_view line, std::string& run_id) {
  HistoryPart part;
  const auto read = read_row(line, part);
  run_id = part.run_id;
  if (!read) return read.error();
  if (part.withdrawn) {
    if (const auto removed = store.remove_history(run_id); !removed) return removed.error();
    return LineOutcome::kKept;
  }
  const auto events = read_events(member_of(line, "events"), run_id);
  if (!events) return events.error();
  return keep_part(store, run_id, *events);
}

// added: whether it was new, or how many of it were.
template <class Added>
Result<LineOutcome> outcome_of(const Result<Added>& added) {
  if (!added) return added.error();
  return *added > 0 ? LineOutcome::kImported : LineOutcome::kPresent;
}

Result<LineOutcome> take_pruned(Store& store, std::string_view list) {
  const auto runs = read_pruned(list);
  if (!runs) return runs.error();
  return outcome_of(store.insert_pruned(*runs));
}

Result<LineOutcome> take_reconciliation(Store& store, std::string_view object) {
  ReconciliationRow row;
  if (const auto read = read_row(object, row); !read) return read.error();
  return outcome_of(store.insert_reconciliation(row));
}

Result<LineOutcome> take_dead_letter(Store& store, std::string_view object, std::string& run_id) {
  DeadLetter letter;
  const auto read = read_row(object, letter);
  run_id = letter.run_id;
  if (!read) return read.error();
  return outcome_of(store.insert_dead_letter(letter));
}

Result<bool> is_known_as_it_is(Store& store, const RecorderRow& row) {
  std::string before = row.self.id;
  before.pop_back();  // sorts before it, and no other recorder's id lies between
  const auto some = store.list_recorders(before, 100);
  if (!some) return some.error();
  const auto found = std::ranges::find(*some, row.self.id, [](const RecorderRow& one) { return one.self.id; });
  return found != some->end() && found->checkpoint.ledger == row.checkpoint.ledger &&
         found->checkpoint.applied == row.checkpoint.applied;
}

Result<LineOutcome> take_recorder(Store& store, std::string_view object) {
  RecorderRow row;
  if (const auto read = read_row(object, row); !read) return read.error();
  const auto outcome = outcome_of(store.insert_recorder(row));
  if (!outcome || *outcome == LineOutcome::kImported) return outcome;
  const auto same = is_known_as_it_is(store, row);
  if (!same) return same.error();
  return *same ? outcome : differs();
}

// Whether the next line may fare better: it was this one that was refused.
bool is_refusal(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalid:
    case ErrorKind::kNotFound:
    case ErrorKind::kConflict:
    case ErrorKind::kData:
    case ErrorKind::kDenied:
      return true;
    case ErrorKind::kFull:
    case ErrorKind::kUnavailable:
    case ErrorKind::kRefused:
    case ErrorKind::kInDoubt:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return false;
}

Result<LineOutcome> take_line(Store& store, std::string_view text, ImportReport::Line& line) {
  const JsonScan scan = scan_json(text, kMaxDepth);
  if (scan.problem != JsonProblem::kNone) return refused("not JSON: " + scan.message);
  for (const JsonMember& member : scan.members) {
    if (member.key == "run") return line.kind = "run", take_run(store, text, line.run_id);
    if (member.key == "run_id") return line.kind = "run", take_part(store, text, line.run_id);
    if (member.key == "pruned") return line.kind = "pruned", take_pruned(store, member.value);
    if (member.key == "reconciliation") {
      return line.kind = "reconciliation", take_reconciliation(store, member.value);
    }
    if (member.key == "dead_letter") {
      return line.kind = "dead_letter", take_dead_letter(store, member.value, line.run_id);
    }
    if (member.key == "recorder") return line.kind = "recorder", take_recorder(store, member.value);
    if (member.key == "export" || member.key == "end") return LineOutcome::kPassed;
  }
  return refused("unknown line: must be an object with run, pruned, reconciliation, dead_letter or recorder");
}

}  // namespace

std::string_view to_string(LineOutcome outcome) {
  switch (outcome) {
    case LineOutcome::kImported:
      return "imported";
    case LineOutcome::kPresent:
      return "present";
    case LineOutcome::kKept:
      return "kept";
    case LineOutcome::kRefused:
      return "refused";
    case LineOutcome::kPassed:
      return "passed";
  }
  return "";
}

JsonText ImportReport::to_json() const {
  std::map<LineOutcome, std::uint64_t> counts;
  const JsonText list = json_array(lines, [&](const Line& line) {
    ++counts[line.outcome];
    JsonWriter out;
    out.number("line", line.number);
    out.text_or_null("kind", line.kind);
    out.text_or_null("run_id", line.run_id);
    out.text("outcome", to_string(line.outcome));
    if (line.outcome == LineOutcome::kRefused) out.text("reason", line.reason);
    return std::move(out).object();
  });
  JsonWriter report;
  for (const auto outcome : {LineOutcome::kImported, LineOutcome::kPresent, LineOutcome::kRefused}) {
    report.number(to_string(outcome), counts[outcome]);
  }
  report.raw("lines", list);
  return std::move(report).object();
}

ImportReport import_lines(Store& store, std::string_view body) {
  ImportReport report;
  std::uint64_t number = 0;
  while (!body.empty()) {
    const std::size_t end = std::min(body.find('\n'), body.size());
    const std::string_view text = body.substr(0, end);
    body.remove_prefix(std::min(end + 1, body.size()));
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    ImportReport::Line line;
    line.number = number;
    const auto outcome = take_line(store, text, line);
    if (!outcome && !is_refusal(outcome.error())) {
      report.stopped_by = outcome.error();
      break;
    }
    line.outcome = outcome ? *outcome : LineOutcome::kRefused;
    if (!outcome) line.reason = outcome.error().message;
    report.lines.push_back(std::move(line));
  }
  return report;
}

}  // namespace run_recorder
