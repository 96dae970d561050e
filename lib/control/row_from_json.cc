#include "control/row_from_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <type_traits>

#include "base/hex.h"
#include "base/time.h"
#include "run/names.h"
#include "store/columns.h"

namespace run_recorder {
namespace {

constexpr std::size_t kOwnTextBytes = 1'024;  // of the recorder's own columns
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kAnyBytes = kMost;
constexpr std::string_view kTimeAllowed = "an RFC 3339 time with offset";

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
  // Nothing wrong, or kInvalid.
  Result<void> problem() const { return problem_.empty() ? Result<void>() : Error{ErrorKind::kInvalid, problem_}; }

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
    const JsonMember* member = find(name, JsonType::kString, kTimeAllowed);
    if (member == nullptr) return std::nullopt;
    const auto time = parse_rfc3339(json_string_value(member->value));
    if (!time) wrong(name, kTimeAllowed);
    return time;
  }
  std::optional<Timestamp> needed_time(std::string_view name) {
    const auto value = time(name);
    if (!value) wrong(name, kTimeAllowed);
    return value;
  }
  bool flag(std::string_view name) {
    const auto found = members_.find(name);
    if (found == members_.end()) return false;
    const JsonType type = found->second.type;
    if (type != JsonType::kTrue && type != JsonType::kFalse) wrong(name, "true or false");
    return type == JsonType::kTrue;
  }
  std::optional<JsonText> object(std::string_view name, std::size_t most = kAnyBytes) {
    const JsonMember* member = find(name, JsonType::kObject, "an object or null");
    if (member == nullptr) return std::nullopt;
    if (member->value.size() > most) wrong(name, fmt::format("an object of at most {} bytes", most));
    return JsonText(member->value);
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
    value = json ? members.object(name, most()) : members.text(name, most(), least());
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

// Each element as read gives it.
template <class Row, class Read>
Result<std::vector<Row>> read_list(std::string_view list, std::string_view name, std::string_view each, Read read) {
  if (json_type(list) != JsonType::kArray) {
    return Error{ErrorKind::kInvalid, fmt::format("{}: must be a list", name)};
  }
  std::vector<Row> rows;
  for (const std::string_view element : json_elements(list)) {
    Members members(element, each);
    rows.push_back(read(members, rows));
    if (const auto fits = members.problem(); !fits) return fits.error();
  }
  return rows;
}

}  // namespace

Result<void> read_row(std::string_view object, Run& row) {
  Members members(object, "run");
  for (const RunColumn& column : run_columns()) take(members, column, row);
  const bool is_final = std::ranges::count(terminal_statuses(), row.status) > 0;
  if (is_final != row.finalized_at.has_value()) {
    members.wrong("finalized_at",
                  fmt::format("{}, where status is {},", is_final ? "a time" : "null", to_string(row.status)));
  }
  return members.problem();
}

Result<void> read_row(std::string_view object, ReconciliationRow& row) {
  Members members(object, "reconciliation");
  row.pass_id = members.needed("pass_id", kMaxNameBytes);
  row.recorder = members.text("recorder", kOwnTextBytes).value_or("");
  row.trigger = members.text("trigger", kMaxNameBytes).value_or("");
  row.started_at = members.needed_time("started_at").value_or(Timestamp{});
  row.finished_at = members.time("finished_at");
  row.report = members.object("report").value_or("{}");
  return members.problem();
}

Result<void> read_row(std::string_view object, DeadLetter& row) {
  Members members(object, "dead_letter");
  row.recorder = members.needed("recorder", kOwnTextBytes);
  row.run_id = members.text("run_id", kMaxNameBytes).value_or("");
  row.type = members.text("type", kMaxShortNameBytes).value_or("");
  row.event_id = members.text("event_id", kMaxShortNameBytes);
  auto record = from_hex(members.text("record", kAnyBytes).value_or("x"));
  if (!record) members.wrong("record", "an even number of hexadecimal digits");
  row.record = std::move(record).value_or("");
  row.line = members.text("line", kAnyBytes).value_or("");
  row.sqlstate = members.text("sqlstate", kMaxNameBytes).value_or("");
  row.reason = members.text("reason", kAnyBytes).value_or("");
  row.tries = members.number("tries", 1, kMost).value_or(1);
  row.received_at = members.time("received_at");
  row.inserted_at = members.needed_time("inserted_at");
  return members.problem();
}

Result<void> read_row(std::string_view object, RecorderRow& row) {
  Members members(object, "recorder");
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
  return members.problem();
}

Result<void> read_row(std::string_view line, HistoryPart& row) {
  Members members(line, "the line");
  row.run_id = members.needed("run_id", kMaxNameBytes);
  const auto fits = members.problem();
  row.withdrawn = fits && members.flag("withdrawn");
  return fits;
}

Result<std::vector<StoredEvent>> read_events(std::string_view list, std::string_view run_id) {
  return read_list<StoredEvent>(list, "events", "an event", [&](Members& members, const auto& before) {
    return read_event(members, run_id, before.empty() ? 0 : before.back().entry.seq + 1);
  });
}

Result<std::vector<PrunedRun>> read_pruned(std::string_view list) {
  return read_list<PrunedRun>(list, "pruned", "an element of pruned", [](Members& members, const auto&) {
    PrunedRun run;
    run.run_id = members.needed("run_id", kMaxNameBytes);
    run.pruned_at = members.needed_time("pruned_at").value_or(Timestamp{});
    return run;
  });
}

}  // namespace run_recorder
