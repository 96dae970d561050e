#include "store/columns.h"

#include <algorithm>
#include <array>

namespace run_recorder {
namespace {

using enum ColumnKind;
using enum ColumnOwner;
using enum ColumnGroup;

constexpr auto bits(auto... parts) {
  return static_cast<std::uint8_t>((... | static_cast<unsigned>(parts)));
}
constexpr std::uint8_t kEvery = bits(RunParts::kAll, RunParts::kWithoutData, RunParts::kToDecide, RunParts::kBare);
constexpr std::uint8_t kData = bits(RunParts::kAll, RunParts::kToDecide);
constexpr std::uint8_t kShown = bits(RunParts::kAll, RunParts::kWithoutData);
constexpr std::uint8_t kNotBare = bits(RunParts::kAll, RunParts::kWithoutData, RunParts::kToDecide);

constexpr bool kNull = true;
constexpr bool kGiven = false;

constexpr Allowed kId{1, 255};
constexpr Allowed kQueueName{1, 64};
constexpr Allowed kState{0, 255};
constexpr Allowed kOwnText{0, 1'024};
constexpr Allowed kCommandText{1, kMaxCommandBytes};
constexpr Allowed kEventId{1, 64};
constexpr Allowed kReport{0, 16'384};  // with the spaces of PostgreSQL, and to spare
constexpr Allowed kNumber{1};
constexpr Allowed kSmallNumber{1, std::numeric_limits<std::int32_t>::max()};
constexpr Allowed kProcess{0, std::numeric_limits<std::int32_t>::max()};
constexpr Allowed kUser{0, std::numeric_limits<std::uint32_t>::max()};
constexpr Allowed kAnything{};

// clang-format off
constexpr std::array kRunColumns{
    RunColumn{"run_id", "i", kText, &Run::run_id, kContract, kGiven, kKey, kEvery, kId},
    RunColumn{"council", "c", kText, &Run::council, kContract, kGiven, kFields, kEvery, kId},
    RunColumn{"status", "s", kText, &Run::status, kContract, kGiven, kAlways, kEvery, kAnything},
    RunColumn{"attempt", "n", kInteger, &Run::attempt, kContract, kGiven, kFields, kEvery, kSmallNumber},
    RunColumn{"parent_attempt_run_id", "p", kText, &Run::parent_attempt_run_id, kContract, kNull, kFields, kNotBare, kId},
    RunColumn{"oban_job_id", "j", kInteger, &Run::oban_job_id, kContract, kNull, kFields, kEvery, kNumber},
    RunColumn{"oban_job_state_at_finalize", "z", kText, &Run::oban_job_state_at_finalize, kContract, kNull, kOutcome, kNotBare, kState},
    RunColumn{"input", "x", kJson, &Run::input, kContract, kNull, kFields, kData, kAnything},
    RunColumn{"result", "y", kJson, &Run::result, kContract, kNull, kOutcome, kData, kAnything},
    RunColumn{"error", "k", kJson, &Run::error, kContract, kNull, kOutcome, kNotBare, kAnything},
    RunColumn{"started_at", "b", kTime, &Run::started_at, kContract, kNull, kFields, kEvery, kAnything},
    RunColumn{"finalized_at", "d", kTime, &Run::finalized_at, kContract, kNull, kOutcome, kNotBare, kAnything},
    RunColumn{"inserted_at", "ia", kTime, &Run::inserted_at, kContract, kGiven, kInserted, kShown, kAnything},
    RunColumn{"updated_at", "ua", kTime, &Run::updated_at, kContract, kGiven, kChanged, kShown, kAnything},
    RunColumn{"council_given", "g", kBoolean, &Run::council_given, kOwn, kGiven, kFields, kNotBare, kAnything},
    RunColumn{"attempt_given", "h", kBoolean, &Run::attempt_given, kOwn, kGiven, kFields, kEvery, kAnything},
    RunColumn{"recorder", "r", kText, &Run::recorder, kOwn, kGiven, kAlways, kEvery, kOwnText},
    RunColumn{"worker_process", "w", kText, &Run::worker_process, kOwn, kGiven, kAlways, kEvery, kOwnText},
    RunColumn{"sender_process", "v", kText, &Run::sender_process, kOwn, kGiven, kAlways, kEvery, kOwnText},
    RunColumn{"connection", "o", kText, &Run::connection, kOwn, kGiven, kAlways, kEvery, kOwnText},
    RunColumn{"last_seq", "q", kInteger, &Run::last_seq, kOwn, kGiven, kAlways, kEvery, kAnything},
    RunColumn{"last_event_at", "la", kTime, &Run::last_event_at, kOwn, kGiven, kChanged, kShown, kAnything},
    RunColumn{"stuck_pass", "m", kText, &Run::stuck_pass, kOwn, kGiven, kOutcome, kNotBare, kOwnText},
    RunColumn{"host", "ho", kText, &Run::host, kOwn, kNull, kFields, kEvery, kId},
    RunColumn{"queue", "qu", kText, &Run::queue, kOptional, kNull, kFields, kEvery, kQueueName},
    RunColumn{"job_id", "t", kText, &Run::job_id, kOptional, kNull, kFields, kEvery, kId},
    RunColumn{"expires_in", "e", kInteger, &Run::expires_in, kOptional, kNull, kReports, kEvery, kSmallNumber},
    RunColumn{"usage", "us", kJson, &Run::usage, kOptional, kNull, kReports, kNotBare, kReport},
    RunColumn{"progress", "pr", kJson, &Run::progress, kOptional, kNull, kReports, kNotBare, kReport},
    RunColumn{"unit", "un", kText, &Run::unit, kOptional, kNull, kFields, kNotBare, kId},
    RunColumn{"os_user", "ou", kText, &Run::os_user, kOptional, kNull, kFields, kNotBare, kId},
    RunColumn{"cwd", "cw", kText, &Run::cwd, kOptional, kNull, kFields, kNotBare, kCommandText},
    RunColumn{"command", "cm", kText, &Run::command, kOptional, kNull, kFields, kNotBare, kCommandText},
};

constexpr std::array kHistoryColumns{
    HistoryColumn{"id", "id", kAny, &StoredEvent::id, kContract, kGiven, kDatabase, kAnything},
    HistoryColumn{"run_id", "i", kText, &HistoryEntry::run_id, kContract, kGiven, kAlways, kId},
    HistoryColumn{"seq", "q", kInteger, &HistoryEntry::seq, kContract, kGiven, kAlways, kNumber},
    HistoryColumn{"type", "t", kText, &HistoryEntry::type, kContract, kGiven, kAlways, kAnything},
    HistoryColumn{"payload", "p", kJson, &HistoryEntry::payload, kContract, kGiven, kAlways, kAnything},
    HistoryColumn{"inserted_at", "ia", kTime, &StoredEvent::inserted_at, kContract, kGiven, kInserted, kAnything},
    HistoryColumn{"event_id", "e", kText, &HistoryEntry::event_id, kOwn, kNull, kAlways, kEventId},
    HistoryColumn{"at", "a", kTime, &HistoryEntry::at, kOwn, kNull, kAlways, kAnything},
    HistoryColumn{"received_at", "v", kTime, &HistoryEntry::received_at, kOwn, kGiven, kAlways, kAnything},
    HistoryColumn{"recorder", "r", kText, &StoredEvent::recorder, kOwn, kGiven, kRecorder, kOwnText},
    HistoryColumn{"peer_uid", "u", kInteger, &HistoryEntry::peer_uid, kOwn, kNull, kAlways, kUser},
    HistoryColumn{"peer_pid", "g", kInteger, &HistoryEntry::peer_pid, kOwn, kNull, kAlways, kProcess},
    HistoryColumn{"effect", "f", kText, &HistoryEntry::effect, kOwn, kGiven, kAlways, kAnything},
    HistoryColumn{"pass_id", "s", kText, &HistoryEntry::pass_id, kOwn, kNull, kAlways, kOwnText},
};
// clang-format on

constexpr std::size_t kOptionalRunColumns =
    std::ranges::count(kRunColumns, ColumnOwner::kOptional, &RunColumn::owner);

struct HasValue {
  bool operator()(const JsonColumn& json) const { return json.has_value(); }
  template <class Value>
  bool operator()(const std::optional<Value>& value) const {
    return value.has_value();
  }
  bool operator()(const auto&) const { return true; }
};

struct Bytes {
  std::size_t operator()(const std::string& text) const { return text.size(); }
  std::size_t operator()(const std::optional<std::string>& text) const { return text ? text->size() : 0; }
  std::size_t operator()(const JsonColumn& json) const { return json ? json->size() : 0; }
  std::size_t operator()(const auto&) const { return 0; }
};

}  // namespace

std::span<const RunColumn> run_columns() {
  return kRunColumns;
}

std::span<const RunColumn> optional_run_columns() {
  return std::span(kRunColumns).last(kOptionalRunColumns);
}

std::span<const RunColumn> plain_run_columns() {
  return std::span(kRunColumns).first(kRunColumns.size() - kOptionalRunColumns);
}

std::span<const HistoryColumn> history_columns() {
  return kHistoryColumns;
}

bool writes(const RunChange& change, ColumnGroup group) {
  switch (group) {
    case kFields:
      return change.fields_changed;
    case kOutcome:
      return change.outcome_changed;
    case kReports:
      return change.reports_changed;
    case kAlways:
    case kChanged:
      return true;
    case kKey:
    case kInserted:
    case kRecorder:
    case kDatabase:
      break;
  }
  return false;
}

std::optional<Effect> parse_effect(std::string_view text) {
  for (const Effect effect : {Effect::kApplied, Effect::kRecorded, Effect::kConflict, Effect::kRevived}) {
    if (to_string(effect) == text) return effect;
  }
  return std::nullopt;
}

bool has_value(const RunColumn& column, const Run& run) {
  return std::visit([&](auto member) { return HasValue()(run.*member); }, column.member);
}

std::size_t bytes_of(const Run& run, bool with_texts) {
  std::size_t bytes = 0;
  for (const RunColumn& column : kRunColumns) {
    if (column.kind == kJson || with_texts) {
      bytes += std::visit([&](auto member) { return Bytes()(run.*member); }, column.member);
    }
  }
  return bytes;
}

}  // namespace run_recorder
