// The way in: see move.h.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <type_traits>

#include "base/hex.h"
#include "base/time.h"
#include "control/move.h"
#include "control/row_json.h"
#include "run/names.h"
#include "store/columns.h"

namespace run_recorder {
namespace {

using LineOutcome = ImportReport::Outcome;

constexpr std::size_t kMaxDepth = 600;        // what an event may nest, and its envelopes
constexpr std::size_t kOwnTextBytes = 1'024;  // of the recorder's own columns
constexpr std::size_t kAnyBytes = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// An object's members as values of the columns' types; the first that does not fit is remembered, with what is
// allowed.
class Members {
 public:
  explicit Members(std::string_view object, std::string_view what) {
    if (json_type(object) != JsonType::kObject) {
      wrong(what, "an object");
      return;
    }
    for (const JsonMember& member : json_members(object)) {
      if (member.type != JsonType::kNull) members_.emplace(member.key, member);
    }
  }
  const std::string& problem() const { return problem_; }

  std::optional<std::string> text(std::string_view name, std::size_t most, std::size_t least = 0) {
    const JsonMember* member = find(name, JsonType::kString, "a string");
    if (member == nullptr) return std::nullopt;
    std::string value = json_string_value(member->value);
    if (value.size() < least || value.size() > most) wrong(name, bytes_allowed(least, most));
    return value;
  }
  std::string needed(std::string_view name, std::size_t most, std::size_t least = 1) {
    const auto value = text(name, most, least);
    if (!value) wrong(name, bytes_allowed(least, most));
    return value.value_or("");
  }
  std::optional<std::int64_t> number(std::string_view name, std::int64_t lowest, std::int64_t highest) {
    const std::string allowed = fmt::format("a whole number from {} to {}", lowest, highest);
    const JsonMember* member = find(name, JsonType::kNumber, allowed);
    if (member == nullptr) return std::nullopt;
    const auto value = json_integer(member->value);
    if (!value || *value < lowest || *value > highest) wrong(name, allowed);
    return value;
  }
  std::uint64_t count(std::string_view name) {
    return static_cast<std::uint64_t>(number(name, 0, kMost).value_or(0));
  }
  std::optional<Timestamp> time(std::string_view name) {
    constexpr std::string_view kAllowed = "an RFC 3339 time with offset";
    const JsonMember* member = find(name, JsonType::kString, kAllowed);
    if (member == nullptr) return std::nullopt;
    const auto time = parse_rfc3339(json_string_value(member->value));
    if (!time) wrong(name, kAllowed);
    return time;
  }
  std::optional<Timestamp> needed_time(std::string_view name) {
    const auto value = time(name);
    if (!value) wrong(name, "an RFC 3339 time with offset");
    return value;
  }
  bool flag(std::string_view name) {
    const auto found = members_.find(name);
    if (found == members_.end()) return false;
    const JsonType type = found->second.type;
    if (type != JsonType::kTrue && type != JsonType::kFalse) wrong(name, "true or false");
    return type == JsonType::kTrue;
  }
  std::optional<JsonText> object(std::string_view name) {
    const JsonMember* member = find(name, JsonType::kObject, "an object or null");
    return member ? std::optional(JsonText(member->value)) : std::nullopt;
  }
  // One that every decision about its row loads.
  std::optional<JsonText> small_object(std::string_view name, std::size_t most) {
    auto value = object(name);
    if (value && value->size() > most) wrong(name, fmt::format("an object of at most {} bytes", most));
    return value;
  }
  // The first one stays.
  void wrong(std::string_view name, std::string_view allowed) {
    if (problem_.empty()) problem_ = fmt::format("{}: must be {}", name, allowed);
  }

 private:
  static std::string bytes_allowed(std::size_t least, std::size_t most) {
    return most == kAnyBytes ? "a string" : fmt::format("a string of {} to {} bytes", least, most);
  }
  const JsonMember* find(std::string_view name, JsonType type, std::string_view allowed) {
    const auto found = members_.find(name);
    if (found == members_.end()) return nullptr;
    if (found->second.type == type) return &found->second;
    wrong(name, allowed);
    return nullptr;
  }

  std::map<std::string, JsonMember, std::less<>> members_;
  std::string problem_;
};

bool is_final(Status status) {
  return std::ranges::count(terminal_statuses(), status) > 0;
}

// A member into the column's value, within what the column allows.
struct TakeValue {
  Members& members;
  std::string_view name;
  bool json;
  bool needed;
  Allowed allowed;

  void operator()(std::string& value) const {
    if (json) {
      value = members.object(name).value_or("{}");
    } else if (needed && least() > 0) {
      value = members.needed(name, most(), least());
    } else {
      value = members.text(name, most(), least()).value_or("");
    }
  }
  void operator()(std::optional<std::string>& value) const {
    value = json ? members.small_object(name, most()) : members.text(name, most(), least());
  }
  void operator()(JsonColumn& value) const { value = members.object(name); }
  void operator()(bool& value) const { value = members.flag(name); }
  void operator()(std::optional<Timestamp>& value) const {
    value = needed ? members.needed_time(name) : members.time(name);
  }
  void operator()(Timestamp& value) const { value = members.time(name).value_or(Timestamp{}); }
  void operator()(Status& value) const {
    const auto status = parse_status(members.text(name, kAnyBytes).value_or(""));
    if (!status) members.wrong(name, "queued, running, completed, failed, cancelled or stuck");
    value = status.value_or(Status::kQueued);
  }
  void operator()(Effect& value) const {
    const auto effect = parse_effect(members.text(name, kAnyBytes).value_or(""));
    if (!effect) members.wrong(name, "applied, recorded, conflict or revived");
    value = effect.value_or(Effect::kRecorded);
  }
  template <class Number>
  requires std::is_integral_v<Number>
  void operator()(Number& value) const {
    const auto number = members.number(name, allowed.least, allowed.most);
    if (number) value = static_cast<Number>(*number);
  }
  template <class Number>
  requires std::is_integral_v<Number>
  void operator()(std::optional<Number>& value) const {
    const auto number = members.number(name, allowed.least, allowed.most);
    if (number) value = static_cast<Number>(*number);
  }

 private:
  std::size_t least() const { return static_cast<std::size_t>(allowed.least); }
  std::size_t most() const { return static_cast<std::size_t>(allowed.most); }
};

template <class Column, class Row>
void take(Members& members, const Column& column, Row& row) {
  const bool needed = column.owner == ColumnOwner::kContract && !column.nullable;
  visit_value(column, row, TakeValue{members, column.name, column.kind == ColumnKind::kJson, needed, column.allowed});
}

Run read_run(Members& members) {
  Run run;
  for (const RunColumn& column : run_columns()) take(members, column, run);
  if (is_final(run.status) != run.finalized_at.has_value()) {
    members.wrong("finalized_at", is_final(run.status)
                                      ? fmt::format("a time, where status is {}", to_string(run.status))
                                      : fmt::format("null, where status is {}", to_string(run.status)));
  }
  return run;
}

StoredEvent read_event(Members& members, std::string_view run_id, std::int64_t expected_seq) {
  StoredEvent event;
  for (const HistoryColumn& column : history_columns()) {
    if (column.group != ColumnGroup::kDatabase) take(members, column, event);
  }
  HistoryEntry& entry = event.entry;
  if (entry.run_id != run_id) members.wrong("run_id of an event", "its run's");
  if (entry.seq == 0 || (expected_seq > 0 && entry.seq != expected_seq)) {
    members.wrong(fmt::format("seq ({})", entry.seq),
                  fmt::format("{}, each one more than the last", std::max<std::int64_t>(expected_seq, 1)));
  }
  if (!is_event_type(entry.type)) members.wrong("type of an event", "[a-z][a-z0-9_.]* of at most 64 bytes");
  if (entry.received_at == Timestamp{}) entry.received_at = event.inserted_at.value_or(Timestamp{});
  return event;
}

std::string_view member_of(std::string_view object, std::string_view name) {
  if (json_type(object) != JsonType::kObject) return "null";
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

// The entries of a run's history in their order, without a gap between them.
Result<std::vector<StoredEvent>> read_events(std::string_view list, std::string_view run_id) {
  if (json_type(list) != JsonType::kArray) return refused("events: must be a list");
  std::vector<StoredEvent> events;
  for (const std::string_view element : json_elements(list)) {
    Members members(element, "an event");
    events.push_back(read_event(members, run_id, events.empty() ? 0 : events.back().entry.seq + 1));
    if (!members.problem().empty()) return refused(members.problem());
  }
  return events;
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
  Members members(member_of(line, "run"), "run");
  const Run run = read_run(members);
  run_id = run.run_id;
  if (!members.problem().empty()) return refused(members.problem());
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
  Members members(line, "the line");
  run_id = members.needed("run_id", kMaxNameBytes);
  if (!members.problem().empty()) return refused(members.problem());
  if (members.flag("withdrawn")) {
    if (const auto removed = store.remove_history(run_id); !removed) return removed.error();
    return LineOutcome::kKept;
  }
  const auto events = read_events(member_of(line, "events"), run_id);
  if (!events) return events.error();
  return keep_part(store, run_id, *events);
}

Result<LineOutcome> take_pruned(Store& store, std::string_view list) {
  if (json_type(list) != JsonType::kArray) return refused("pruned: must be a list");
  std::vector<PrunedRun> runs;
  for (const std::string_view element : json_elements(list)) {
    Members members(element, "an element of pruned");
    PrunedRun& run = runs.emplace_back();
    run.run_id = members.needed("run_id", kMaxNameBytes);
    run.pruned_at = members.needed_time("pruned_at").value_or(Timestamp{});
    if (!members.problem().empty()) return refused(members.problem());
  }
  const auto added = store.insert_pruned(runs);
  if (!added) return added.error();
  return *added > 0 ? LineOutcome::kImported : LineOutcome::kPresent;
}

Result<LineOutcome> take_reconciliation(Store& store, std::string_view object) {
  Members members(object, "reconciliation");
  ReconciliationRow row;
  row.pass_id = members.needed("pass_id", kMaxNameBytes);
  row.recorder = members.text("recorder", kOwnTextBytes).value_or("");
  row.trigger = members.text("trigger", kMaxNameBytes).value_or("");
  row.started_at = members.needed_time("started_at").value_or(Timestamp{});
  row.finished_at = members.time("finished_at");
  row.report = members.object("report").value_or("{}");
  if (!members.problem().empty()) return refused(members.problem());
  const auto added = store.insert_reconciliation(row);
  if (!added) return added.error();
  return *added ? LineOutcome::kImported : LineOutcome::kPresent;
}

Result<LineOutcome> take_dead_letter(Store& store, std::string_view object, std::string& run_id) {
  Members members(object, "dead_letter");
  DeadLetter letter;
  letter.recorder = members.needed("recorder", kOwnTextBytes);
  letter.run_id = run_id = members.text("run_id", kMaxNameBytes).value_or("");
  letter.type = members.text("type", kMaxShortNameBytes).value_or("");
  letter.event_id = members.text("event_id", kMaxShortNameBytes);
  auto record = from_hex(members.text("record", kAnyBytes).value_or("x"));
  if (!record) members.wrong("record", "an even number of hexadecimal digits");
  letter.record = std::move(record).value_or("");
  letter.line = members.text("line", kAnyBytes).value_or("");
  letter.sqlstate = members.text("sqlstate", kMaxNameBytes).value_or("");
  letter.reason = members.text("reason", kAnyBytes).value_or("");
  letter.tries = members.number("tries", 1, kMost).value_or(1);
  letter.received_at = members.time("received_at");
  letter.inserted_at = members.needed_time("inserted_at");
  if (!members.problem().empty()) return refused(members.problem());
  const auto added = store.insert_dead_letter(letter);
  if (!added) return added.error();
  return *added ? LineOutcome::kImported : LineOutcome::kPresent;
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
  Members members(object, "recorder");
  RecorderRow row;
  row.self.id = members.needed("id", kMaxNameBytes);
  row.self.host = members.text("host", kOwnTextBytes).value_or("");
  row.self.version = members.text("version", kOwnTextBytes).value_or("");
  row.self.incarnation = members.text("incarnation", kOwnTextBytes).value_or("");
  row.first_seen = members.time("first_seen");
  row.last_seen = members.time("last_seen");
  row.checkpoint.ledger = {.applied = members.count("applied"),
                           .duplicate = members.count("duplicate"),
                           .dead_letters = members.count("dead_letters"),
                           .dead_letters_removed = members.count("dead_letters_removed"),
                           .conflicts = members.count("conflicts")};
  const std::string positions = members.object("positions").value_or("{}");
  for (const JsonMember& member : json_members(positions)) {
    const auto applied = member.type == JsonType::kNumber ? json_integer(member.value) : std::nullopt;
    if (!applied || *applied < 0) members.wrong("positions", "an object of whole numbers");
    row.checkpoint.applied.emplace(member.key, static_cast<std::uint64_t>(applied.value_or(0)));
  }
  const auto printable = [](char c) { return c > ' ' && c <= '~'; };
  if (!std::ranges::all_of(row.self.id, printable)) members.wrong("id", "printable ASCII");
  if (!members.problem().empty()) return refused(members.problem());
  const auto added = store.insert_recorder(row);
  if (!added) return added.error();
  if (*added) return LineOutcome::kImported;
  const auto same = is_known_as_it_is(store, row);
  if (!same) return same.error();
  return *same ? Result<LineOutcome>(LineOutcome::kPresent) : differs();
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
  std::string list;
  for (const Line& line : lines) {
    ++counts[line.outcome];
    list += fmt::format("{}{{\"line\":{},\"kind\":{},\"run_id\":{},\"outcome\":\"{}\"", list.empty() ? "" : ",",
                        line.number, line.kind.empty() ? "null" : json_string(line.kind),
                        line.run_id.empty() ? "null" : json_string(line.run_id), to_string(line.outcome));
    if (line.outcome == LineOutcome::kRefused) list += ",\"reason\":" + json_string(line.reason);
    list += '}';
  }
  return fmt::format("{{\"imported\":{},\"present\":{},\"refused\":{},\"lines\":[{}]}}",
                     counts[LineOutcome::kImported], counts[LineOutcome::kPresent], counts[LineOutcome::kRefused],
                     list);
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
