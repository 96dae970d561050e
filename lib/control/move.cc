#include "control/move.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "base/time.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

constexpr std::size_t kRowsAtOnce = 10;
constexpr std::size_t kPageBytes = 1 << 20;
constexpr std::size_t kEventsAtOnce = 1'000;
constexpr std::size_t kMaxDepth = 600;  // what an event may nest, and its envelopes

Result<std::vector<StoredEvent>> whole_history(Store& store, const std::string& run_id) {
  std::vector<StoredEvent> history;
  std::string cursor;
  do {
    auto page = store.list_events(run_id, kEventsAtOnce, cursor);
    if (!page) return page.error();
    for (StoredEvent& event : page.value().events) history.push_back(std::move(event));
    cursor = page.value().next;
  } while (!cursor.empty());
  return history;
}

JsonText whole_run(const Run& run, const std::vector<StoredEvent>& history) {
  std::string text = "{\"run\":" + run_json(run, true) + ",\"events\":[";
  for (std::size_t i = 0; i < history.size(); ++i) text += (i > 0 ? "," : "") + event_json(history[i]);
  return text + "]}";
}

// An object's members as values of the columns' types; the first that does not fit is remembered.
class Members {
 public:
  explicit Members(std::string_view object) {
    if (json_type(object) != JsonType::kObject) {
      problem_ = "an object is missing";
      return;
    }
    for (const JsonMember& member : json_members(object)) {
      if (member.type != JsonType::kNull) members_.emplace(member.key, member);
    }
  }
  const std::string& problem() const { return problem_; }

  std::optional<std::string> text(const char* name) {
    const JsonMember* member = find(name, JsonType::kString);
    return member ? std::optional(json_string_value(member->value)) : std::nullopt;
  }
  std::string needed(const char* name) {
    auto value = text(name);
    if (!value || value->empty()) wrong(name);
    return value.value_or("");
  }
  std::optional<std::int64_t> number(const char* name, std::int64_t lowest, std::int64_t highest) {
    const JsonMember* member = find(name, JsonType::kNumber);
    if (!member) return std::nullopt;
    const auto value = json_integer(member->value);
    if (!value || *value < lowest || *value > highest) wrong(name);
    return value;
  }
  std::optional<Timestamp> time(const char* name) {
    const auto value = text(name);
    if (!value) return std::nullopt;
    const auto time = parse_rfc3339(*value);
    if (!time) wrong(name);
    return time;
  }
  bool flag(const char* name) {
    const auto found = members_.find(name);
    return found != members_.end() && found->second.type == JsonType::kTrue;
  }
  std::optional<JsonText> object(const char* name) {
    const JsonMember* member = find(name, JsonType::kObject);
    return member ? std::optional(JsonText(member->value)) : std::nullopt;
  }
  void wrong(const char* name) {
    if (problem_.empty()) problem_ = std::string(name) + " is missing or none that a run has";
  }

 private:
  const JsonMember* find(const char* name, JsonType type) {
    const auto found = members_.find(name);
    if (found == members_.end()) return nullptr;
    if (found->second.type == type) return &found->second;
    wrong(name);
    return nullptr;
  }

  std::map<std::string, JsonMember, std::less<>> members_;
  std::string problem_;
};

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMostAttempts = std::numeric_limits<std::int32_t>::max();

Run read_run(Members& members) {
  Run run;
  run.run_id = members.needed("run_id");
  run.council = members.needed("council");
  const auto status = parse_status(members.needed("status"));
  if (!status) members.wrong("status");
  run.status = status.value_or(Status::kQueued);
  run.attempt = static_cast<std::int32_t>(members.number("attempt", 1, kMostAttempts).value_or(1));
  run.parent_attempt_run_id = members.text("parent_attempt_run_id");
  run.oban_job_id = members.number("oban_job_id", 1, kMost);
  run.oban_job_state_at_finalize = members.text("oban_job_state_at_finalize");
  run.input = members.object("input");
  run.result = members.object("result");
  run.error = members.object("error");
  run.started_at = members.time("started_at");
  run.finalized_at = members.time("finalized_at");
  run.inserted_at = members.time("inserted_at");
  run.updated_at = members.time("updated_at");
  if (!run.inserted_at || !run.updated_at) members.wrong("inserted_at or updated_at");
  run.council_given = members.flag("council_given");
  run.attempt_given = members.flag("attempt_given");
  run.recorder = members.text("recorder").value_or("");
  run.worker_process = members.text("worker_process").value_or("");
  run.sender_process = members.text("sender_process").value_or("");
  run.connection = members.text("connection").value_or("");
  run.last_seq = members.number("last_seq", 0, kMost).value_or(0);
  run.last_event_at = members.time("last_event_at");
  run.stuck_pass = members.text("stuck_pass").value_or("");
  return run;
}

StoredEvent read_event(Members& members, const std::string& run_id) {
  StoredEvent event;
  HistoryEntry& entry = event.entry;
  entry.run_id = members.needed("run_id");
  if (entry.run_id != run_id) members.wrong("run_id of an event");
  entry.seq = members.number("seq", 1, kMost).value_or(0);
  if (entry.seq == 0) members.wrong("seq");
  entry.type = members.needed("type");
  entry.payload = members.object("payload").value_or("{}");
  entry.event_id = members.text("event_id");
  entry.at = members.time("at");
  event.inserted_at = members.time("inserted_at");
  if (!event.inserted_at) members.wrong("inserted_at of an event");
  entry.received_at = members.time("received_at").value_or(event.inserted_at.value_or(Timestamp{}));
  event.recorder = members.text("recorder").value_or("");
  const auto uid = members.number("peer_uid", 0, std::numeric_limits<std::uint32_t>::max());
  if (uid) entry.peer_uid = static_cast<std::uint32_t>(*uid);
  const auto pid = members.number("peer_pid", 0, kMostAttempts);
  if (pid) entry.peer_pid = static_cast<std::int32_t>(*pid);
  const std::string effect = members.needed("effect");
  for (const Effect known : {Effect::kApplied, Effect::kRecorded, Effect::kConflict, Effect::kRevived}) {
    if (to_string(known) == effect) entry.effect = known;
  }
  entry.pass_id = members.text("pass_id").value_or("");
  return event;
}

Error no_run(const std::string& run_id, const std::string& problem) {
  return Error{ErrorKind::kInvalid, fmt::format("run {}: {}", run_id.empty() ? "without an id" : run_id, problem)};
}

std::string_view member_of(std::string_view object, std::string_view name) {
  if (json_type(object) != JsonType::kObject) return "null";
  for (const JsonMember& member : json_members(object)) {
    if (member.key == name) return member.value;
  }
  return "null";
}

// As JSON without the entries' ids, which each database gives by itself.
bool same(const Run& a, const std::vector<StoredEvent>& of_a, const Run& b, std::vector<StoredEvent> of_b) {
  if (of_a.size() != of_b.size()) return false;
  for (std::size_t i = 0; i < of_a.size(); ++i) of_b[i].id = of_a[i].id;
  return json_equal(whole_run(a, of_a), whole_run(b, of_b));
}

Result<void> import_one(Store& store, std::string_view item, ImportReport& report) {
  Members members(member_of(item, "run"));
  const Run run = read_run(members);
  if (!members.problem().empty()) return no_run(run.run_id, members.problem());
  const std::string_view list = member_of(item, "events");
  if (json_type(list) != JsonType::kArray) return no_run(run.run_id, "events is missing or no list");
  std::vector<StoredEvent> history;
  for (const std::string_view element : json_elements(list)) {
    Members event(element);
    history.push_back(read_event(event, run.run_id));
    if (!event.problem().empty()) return no_run(run.run_id, event.problem());
  }
  const auto added = store.insert_whole(run, history);
  if (added && added.value()) {
    ++report.added;
    return {};
  }
  if (!added && added.error().kind != ErrorKind::kData) return added.error();
  if (!added) {
    report.left.push_back({run.run_id, added.error().message});
    return {};
  }
  const auto there = store.find_run(run.run_id);
  if (!there) return there.error();
  const auto its_history = whole_history(store, run.run_id);
  if (!its_history) return its_history.error();
  if (there.value() && same(run, history, *there.value(), its_history.value())) {
    ++report.same;
  } else {
    report.left.push_back({run.run_id, "is there already, and differs"});
  }
  return {};
}

}  // namespace

Result<JsonText> export_page(Store& store, std::size_t limit, std::string_view cursor) {
  const auto last_moment = parse_rfc3339("9999-12-31T23:59:59Z");
  JsonList list("runs");
  std::size_t bytes = 0;
  std::string next(cursor);
  for (std::size_t taken = 0; taken < limit && bytes < kPageBytes;) {
    const auto page = store.aged_rows(*last_moment, std::min(kRowsAtOnce, limit - taken), next);
    if (!page) return page.error();
    for (const AgedRow& row : page.value().rows) {
      // One by one: it may have been removed meanwhile, and it may be large.
      const auto run = store.find_run(row.run_id);
      if (!run) return run.error();
      if (!run.value()) continue;
      const auto history = whole_history(store, row.run_id);
      if (!history) return history.error();
      const JsonText text = whole_run(*run.value(), history.value());
      bytes += text.size();
      list.add(text);
    }
    taken += page.value().rows.size();
    next = page.value().next;
    if (next.empty()) break;
  }
  return list.close(next);
}

JsonText ImportReport::to_json() const {
  std::string text = fmt::format("{{\"added\":{},\"same\":{},\"left\":[", added, same);
  for (std::size_t i = 0; i < left.size(); ++i) {
    text += fmt::format("{}{{\"run_id\":{},\"reason\":{}}}", i > 0 ? "," : "", json_string(left[i].run_id),
                        json_string(left[i].reason));
  }
  return text + "]}";
}

Result<ImportReport> import_runs(Store& store, std::string_view body) {
  const JsonScan scan = scan_json(body, kMaxDepth);
  if (scan.problem != JsonProblem::kNone) return Error{ErrorKind::kInvalid, "the body: " + scan.message};
  const std::string_view runs = member_of(body, "runs");
  if (scan.type != JsonType::kObject || json_type(runs) != JsonType::kArray) {
    return Error{ErrorKind::kInvalid, "the body: an object with a list of runs is allowed"};
  }
  ImportReport report;
  for (const std::string_view item : json_elements(runs)) {
    if (const auto done = import_one(store, item, report); !done) return done.error();
  }
  return report;
}

}  // namespace run_recorder
