// Lines to events: the field rules of contract section 4, each in one place. The line is scanned once; what the event
// keeps of it as JSON is copied as text.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include "base/utf8.h"
#include "protocol/protocol.h"
#include "run/job.h"
#include "run/names.h"

namespace run_recorder {
namespace {

constexpr std::int64_t kMaxExpiresIn = std::int64_t{31} * 24 * 3'600;  // seconds
constexpr std::size_t kMaxFieldInMessage = 64;
constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxInt64 = std::numeric_limits<std::int64_t>::max();

// The fields that mean something; the first kEnvelopeFields of them are never part of the history's payload.
enum class Field {
  kType,
  kRunId,
  kId,
  kAt,
  kWorkerPid,
  kCouncil,
  kInput,
  kAttempt,
  kParent,
  kObanJobId,
  kQueue,
  kJobId,
  kExpiresIn,
  kJobState,
  kMessage,
  kUsage,
  kProgress,
  kResult,
  kErrors,
  kPayload,
  kHost,
  kUnit,
  kUser,
  kCwd,
  kCommand
};
constexpr std::array<std::string_view, 25> kFieldNames = {"type",        "run_id",     "id",
                                                          "at",          "worker_pid", "council",
                                                          "input",       "attempt",    "parent_attempt_run_id",
                                                          "oban_job_id", "queue",      "job_id",
                                                          "expires_in",  "job_state",  "message",
                                                          "usage",       "progress",   "result",
                                                          "errors",      "payload",    "host",
                                                          "unit",        "user",       "cwd",
                                                          "command"};
constexpr std::size_t kEnvelopeFields = 5;

constexpr std::size_t index_of(Field field) {
  return static_cast<std::size_t>(field);
}
constexpr std::string_view name_of(Field field) {
  return kFieldNames[index_of(field)];
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

EventKind kind_of(std::string_view type) {
  if (type == "run_queued") return EventKind::kQueued;
  if (type == "run_started") return EventKind::kStarted;
  if (type == "run_completed") return EventKind::kCompleted;
  if (type == "run_failed") return EventKind::kFailed;
  if (type == "run_heartbeat") return EventKind::kHeartbeat;
  if (type == "run_lost") return EventKind::kLost;
  return EventKind::kOther;
}

// Whether an element of errors says that the run was cancelled rather than failed.
bool means_cancelled(std::string_view element) {
  if (json_type(element) == JsonType::kString) return json_string_value(element) == "cancelled";
  for (const JsonMember& member : json_members(element)) {
    if (member.key == "kind")
      return member.type == JsonType::kString && json_string_value(member.value) == "cancelled";
  }
  return false;
}

void append_member(std::string& object, const JsonMember& member) {
  if (object.size() > 1) object += ',';
  append_json_string(object, member.key);
  object += ':';
  object += member.value;
}

// Reads one event object. Functions named read_ return false when they refused; refusal_ then says why.
class EventReader {
 public:
  EventReader(std::span<const JsonMember> members, FieldRules rules) : members_(members), rules_(rules) {
    for (const JsonMember& member : members_) {
      const auto name = std::find(kFieldNames.begin(), kFieldNames.end(), member.key);
      if (name != kFieldNames.end()) fields_[static_cast<std::size_t>(name - kFieldNames.begin())] = &member;
    }
  }

  std::variant<Event, Blank, Refusal> run() && {
    if (read_type() && read_run_id() && read_common() && read_of_kind() && read_newer()) return std::move(event_);
    return Refusal{RefusalCode::kInvalidEvent, std::move(refusal_)};
  }

 private:
  const JsonMember* find(Field field) const { return fields_[index_of(field)]; }

  bool refuse(Field field, std::string_view allowed) {
    refusal_ = fmt::format("{} {}", name_of(field), allowed);
    return false;
  }

  bool read_type() {
    constexpr std::string_view kAllowed = "must be a string of 1 to 64 bytes that matches [a-z][a-z0-9_.]*";
    const JsonMember* const type = find(Field::kType);
    if (type == nullptr) return refuse(Field::kType, fmt::format("is missing: it {}", kAllowed));
    if (type->type != JsonType::kString) return refuse(Field::kType, kAllowed);
    event_.type = json_string_value(type->value);
    if (!is_event_type(event_.type)) return refuse(Field::kType, kAllowed);
    if (event_.type == "run_stuck" || event_.type == "run_revived") {
      return refuse(Field::kType, fmt::format("{} is the daemon's own: senders may send any other", event_.type));
    }
    event_.kind = kind_of(event_.type);
    return true;
  }

  bool read_run_id() {
    if (find(Field::kRunId) == nullptr) {
      return refuse(Field::kRunId, fmt::format("is missing: it must be a string of 1 to {} bytes", kMaxNameBytes));
    }
    std::optional<std::string> run_id;
    if (!read_string(Field::kRunId, kMaxNameBytes, run_id)) return false;
    event_.run_id = std::move(*run_id);
    return true;
  }

  bool read_common() {
    return read_string(Field::kId, kMaxShortNameBytes, event_.id) && read_time(Field::kAt, event_.at) &&
           read_integer(Field::kWorkerPid, kMaxInt32, event_.worker_pid);
  }

  bool read_of_kind() {
    switch (event_.kind) {
      case EventKind::kQueued:
      case EventKind::kStarted:
        event_.input = read_json(Field::kInput);
        event_.payload = lifecycle_payload();
        read_place();
        return read_string(Field::kCouncil, kMaxNameBytes, event_.council) &&
               read_integer(Field::kAttempt, kMaxInt32, event_.attempt) &&
               read_string(Field::kParent, kMaxNameBytes, event_.parent_attempt_run_id) &&
               read_integer(Field::kObanJobId, kMaxInt64, event_.oban_job_id);
      case EventKind::kCompleted:
        event_.result = read_json(Field::kResult);
        event_.payload = lifecycle_payload();
        return true;
      case EventKind::kFailed:
        event_.result = read_json(Field::kResult);
        event_.payload = lifecycle_payload();
        return read_errors();
      case EventKind::kHeartbeat:
      case EventKind::kLost:
        event_.payload = lifecycle_payload();
        return true;
      case EventKind::kOther:
        return read_payload();
    }
    return true;
  }

  // Whatever stands there was always accepted, and senders may mean something else by such a field: what is not as
  // allowed has no effect.
  void read_place() {
    event_.host = text_if_allowed(Field::kHost, kMaxNameBytes);
    event_.unit = text_if_allowed(Field::kUnit, kMaxNameBytes);
    event_.user = text_if_allowed(Field::kUser, kMaxNameBytes);
    event_.cwd = text_if_allowed(Field::kCwd, kMaxCommandBytes);
    event_.command = text_if_allowed(Field::kCommand, kMaxCommandBytes);
  }

  std::optional<std::string> text_if_allowed(Field field, std::size_t max_bytes) const {
    const JsonMember* const member = find(field);
    if (member == nullptr || member->type != JsonType::kString) return std::nullopt;
    std::string text = json_string_value(member->value);
    if (text.empty() || text.size() > max_bytes) return std::nullopt;
    return text;
  }

  // The fields that earlier versions did not know. A line that one of those accepted is not refused for them: what it
  // says there has no effect.
  bool read_newer() {
    if (read_job() && read_of_work() && read_usage() && read_progress()) return true;
    if (rules_ == FieldRules::kStrict) return false;
    event_.queue = event_.job_id = event_.job_state = event_.message = std::nullopt;
    event_.expires_in.reset();
    event_.usage = event_.progress = std::nullopt;
    return true;
  }

  bool read_of_work() {
    switch (event_.kind) {
      case EventKind::kStarted:
      case EventKind::kHeartbeat:
        return read_integer(Field::kExpiresIn, kMaxExpiresIn, event_.expires_in);
      case EventKind::kCompleted:
      case EventKind::kFailed:
        return read_string(Field::kJobState, kMaxShortNameBytes, event_.job_state);
      case EventKind::kLost:
        return read_message();
      case EventKind::kQueued:
      case EventKind::kOther:
        return true;
    }
    return true;
  }

  // queue, and the job's id there: job_id and oban_job_id are the same where the id is an integer.
  bool read_job() {
    if (event_.kind != EventKind::kQueued && event_.kind != EventKind::kStarted) return true;
    if (!read_string(Field::kQueue, kMaxShortNameBytes, event_.queue) || !read_job_id()) return false;
    const auto number = event_.job_id ? job_number(*event_.job_id) : std::nullopt;
    if (event_.oban_job_id && event_.job_id && number != event_.oban_job_id) {
      return refuse(Field::kJobId,
                    fmt::format("and oban_job_id name different jobs ({} and {}): they must be the same",
                                json_string(utf8_prefix(*event_.job_id, kMaxFieldInMessage)), *event_.oban_job_id));
    }
    if (number) event_.oban_job_id = number;
    if (event_.oban_job_id) event_.job_id = std::to_string(*event_.oban_job_id);
    return true;
  }

  bool read_job_id() {
    const JsonMember* const member = find(Field::kJobId);
    if (member == nullptr) return true;
    if (member->type == JsonType::kString) {
      event_.job_id = json_string_value(member->value);
      if (!event_.job_id->empty() && event_.job_id->size() <= kMaxNameBytes) return true;
    } else if (member->type == JsonType::kNumber) {
      const auto number = json_integer(member->value);
      if (number) event_.job_id = std::to_string(*number);
      if (number) return true;
    }
    return refuse(Field::kJobId,
                  fmt::format("must be a string of 1 to {} bytes or an integer of at most 64 bits", kMaxNameBytes));
  }

  bool read_message() {
    const JsonMember* const message = find(Field::kMessage);
    if (message == nullptr) return true;
    if (message->type != JsonType::kString) return refuse(Field::kMessage, "must be a string");
    event_.message = json_string_value(message->value);
    return true;
  }

  bool read_usage() {
    const JsonMember* const usage = find(Field::kUsage);
    if (usage == nullptr) return true;
    bool numbers = usage->type == JsonType::kObject;
    if (numbers) {
      const std::vector<JsonMember> members = json_members(usage->value);
      numbers = std::ranges::all_of(members, [](const JsonMember& one) { return one.type == JsonType::kNumber; });
    }
    if (!numbers) return refuse(Field::kUsage, "must be an object of numbers, like {\"input_tokens\":1200}");
    event_.usage = JsonText(usage->value);
    return true;
  }

  // Other members than the three stay in the history only.
  bool read_progress() {
    const JsonMember* const progress = find(Field::kProgress);
    if (progress == nullptr) return true;
    bool done = false;
    bool allowed = progress->type == JsonType::kObject;
    JsonText kept = "{";
    const std::vector<JsonMember> members = allowed ? json_members(progress->value) : std::vector<JsonMember>();
    for (const JsonMember& member : members) {
      if (member.key == "done" || member.key == "total") {
        allowed = allowed && member.type == JsonType::kNumber;
        done = done || member.key == "done";
      } else if (member.key == "unit") {
        allowed = allowed && is_unit(member);
      } else {
        continue;
      }
      append_member(kept, member);
    }
    if (!allowed || !done) {
      return refuse(Field::kProgress, fmt::format("must be an object with a number done and, if wanted, a number "
                                                  "total and a string unit of at most {} bytes",
                                                  kMaxShortNameBytes));
    }
    event_.progress = kept + "}";
    return true;
  }

  static bool is_unit(const JsonMember& member) {
    return member.type == JsonType::kString && json_string_value(member.value).size() <= kMaxShortNameBytes;
  }

  bool read_string(Field field, std::size_t max_bytes, std::optional<std::string>& to) {
    const JsonMember* const member = find(field);
    if (member == nullptr) return true;
    if (member->type == JsonType::kString) {
      to = json_string_value(member->value);
      if (!to->empty() && to->size() <= max_bytes) return true;
    }
    return refuse(field, fmt::format("must be a string of 1 to {} bytes", max_bytes));
  }

  template <class Integer>
  bool read_integer(Field field, std::int64_t max, std::optional<Integer>& to) {
    const JsonMember* const member = find(field);
    if (member == nullptr) return true;
    if (member->type == JsonType::kNumber) {
      const auto value = json_integer(member->value);
      if (value && *value >= 1 && *value <= max) {
        to = static_cast<Integer>(*value);
        return true;
      }
    }
    return refuse(field, fmt::format("must be an integer from 1 to {}", max));
  }

  bool read_time(Field field, std::optional<Timestamp>& to) {
    const JsonMember* const member = find(field);
    if (member == nullptr) return true;
    if (member->type == JsonType::kString) to = parse_rfc3339(json_string_value(member->value));
    if (to) return true;
    return refuse(
        field, "must be an RFC 3339 time with offset, years 0001 to 9999 in UTC, like \"2026-01-02T03:04:05.678Z\"");
  }

  // Any JSON, null too.
  std::optional<JsonText> read_json(Field field) const {
    const JsonMember* const member = find(field);
    if (member == nullptr) return std::nullopt;
    return JsonText(member->value);
  }

  bool read_errors() {
    constexpr std::string_view kAllowed = "must be a list of strings or objects";
    const JsonMember* const errors = find(Field::kErrors);
    if (errors == nullptr) return true;
    if (errors->type != JsonType::kArray) return refuse(Field::kErrors, kAllowed);
    for (const std::string_view element : json_elements(errors->value)) {
      const JsonType type = json_type(element);
      if (type != JsonType::kString && type != JsonType::kObject) return refuse(Field::kErrors, kAllowed);
      event_.cancelled = event_.cancelled || means_cancelled(element);
    }
    event_.errors = JsonText(errors->value);
    return true;
  }

  bool is_field(const JsonMember& member, std::size_t first, std::size_t last) const {
    const auto end = fields_.begin() + static_cast<std::ptrdiff_t>(last);
    return std::find(fields_.begin() + static_cast<std::ptrdiff_t>(first), end, &member) != end;
  }

  // The object without what the envelope says.
  JsonText lifecycle_payload() const {
    JsonText payload;
    payload.reserve(256);
    payload += '{';
    for (const JsonMember& member : members_) {
      if (!is_field(member, 0, kEnvelopeFields)) append_member(payload, member);
    }
    return payload += '}';
  }

  // `payload` with all remaining fields added.
  bool read_payload() {
    const JsonMember* const payload = find(Field::kPayload);
    if (payload != nullptr && payload->type != JsonType::kObject) return refuse(Field::kPayload, "must be an object");
    std::vector<const JsonMember*> added;
    for (const JsonMember& member : members_) {
      if (&member != payload && !is_field(member, 0, kEnvelopeFields)) added.push_back(&member);
    }
    if (payload == nullptr) {
      event_.payload = "{";
    } else if (added.empty()) {
      event_.payload = payload->value;
      return true;
    } else {
      const std::vector<JsonMember> members = json_members(payload->value);
      if (!read_disjoint(members, added)) return false;
      event_.payload = payload->value;
      event_.payload.pop_back();
      if (members.empty()) event_.payload = "{";
    }
    for (const JsonMember* const member : added) append_member(event_.payload, *member);
    event_.payload += '}';
    return true;
  }

  // No field stands both in payload and beside it.
  bool read_disjoint(std::span<const JsonMember> inside, std::span<const JsonMember* const> beside) {
    std::vector<std::string_view> keys;
    keys.reserve(inside.size());
    for (const JsonMember& member : inside) keys.push_back(member.key);
    std::sort(keys.begin(), keys.end());
    for (const JsonMember* const member : beside) {
      if (!std::binary_search(keys.begin(), keys.end(), std::string_view(member->key))) continue;
      const std::string_view shown = utf8_prefix(member->key, kMaxFieldInMessage);
      return refuse(Field::kPayload, fmt::format("and the event both have the field {}{}: must be in one of them",
                                                 json_string(shown), shown.size() < member->key.size() ? "…" : ""));
    }
    return true;
  }

  const std::span<const JsonMember> members_;
  const FieldRules rules_;
  std::array<const JsonMember*, kFieldNames.size()> fields_{};
  Event event_;
  std::string refusal_;
};

}  // namespace

std::variant<Event, Blank, Refusal> decode_event(std::string_view line, std::size_t max_depth, FieldRules rules) {
  if (is_blank(line)) return Blank{};
  const JsonScan scan = scan_json(line, max_depth);
  if (scan.problem == JsonProblem::kMalformed) return Refusal{RefusalCode::kInvalidJson, scan.message};
  if (scan.problem == JsonProblem::kTooDeep) return Refusal{RefusalCode::kTooDeep, scan.message};
  if (scan.type != JsonType::kObject) return Refusal{RefusalCode::kInvalidEvent, "an event must be a JSON object"};
  if (scan.problem == JsonProblem::kNulEscape) {
    return Refusal{RefusalCode::kInvalidEvent, scan.message + ": any other character is allowed"};
  }
  return EventReader(scan.members, rules).run();
}

}  // namespace run_recorder
