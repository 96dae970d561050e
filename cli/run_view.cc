#include "cli/run_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "cli/flags.h"
#include "cli/local_time.h"
#include "cli/text.h"

namespace run_recorder {

struct RunField {
  const char* name;
  const char* row_name;  // of the row's column; empty: made of several
  const char* title;
  // As Column has them.
  bool right = false;
  std::size_t shrinks_to = 0;
  int optional = 0;
  std::size_t readable = 0;
  enum class Kind { kText, kTime, kId, kStatus, kNote, kTook, kJob, kProgress, kUsage } kind = Kind::kText;
};

namespace {

using Kind = RunField::Kind;

// The first of them are the usual ones, in the order of their importance; with those that follow the wide ones. A
// UUID is never cut.
constexpr std::size_t kUsualFields = 8, kWideFields = 15;
// clang-format off
constexpr std::array kRunFields{
    RunField{"run", "run_id", "RUN", false, 36, 0, 0, Kind::kId},
    RunField{"name", "council", "NAME", false, 10, 0, 20},
    RunField{"status", "status", "STATUS", false, 0, 0, 0, Kind::kStatus},
    RunField{"note", "error", "NOTE", false, 16, 1, 24, Kind::kNote},
    RunField{"started", "started_at", "STARTED", false, 0, 2, 0, Kind::kTime},
    RunField{"took", "", "TOOK", true, 0, 3, 0, Kind::kTook},
    RunField{"attempt", "attempt", "ATTEMPT", true, 0, 5},
    RunField{"job", "job_id", "JOB", true, 0, 6, 0, Kind::kJob},
    RunField{"queue", "queue", "QUEUE", false, 0, 8},
    RunField{"host", "host", "HOST", false, 10, 9},
    RunField{"parent", "parent_attempt_run_id", "PARENT", false, 36, 11, 0, Kind::kId},
    RunField{"recorded", "inserted_at", "RECORDED", false, 0, 10, 0, Kind::kTime},
    RunField{"last_event", "last_event_at", "LAST EVENT", false, 0, 7, 0, Kind::kTime},
    RunField{"progress", "progress", "PROGRESS", false, 10, 1, 0, Kind::kProgress},
    RunField{"usage", "usage", "USAGE", false, 16, 1, 0, Kind::kUsage},
    RunField{"unit", "unit", "UNIT", false, 16},
    RunField{"user", "os_user", "USER", false, 8},
    RunField{"cwd", "cwd", "CWD", false, 16},
    RunField{"command", "command", "COMMAND", false, 16},
    RunField{"ended", "finalized_at", "ENDED", false, 0, 0, 0, Kind::kTime},
    RunField{"updated", "updated_at", "UPDATED", false, 0, 0, 0, Kind::kTime},
    RunField{"oban_job", "oban_job_id", "OBAN JOB", true},
    RunField{"job_state", "oban_job_state_at_finalize", "JOB STATE"},
    RunField{"expires", "expires_in", "EXPIRES", true},
    RunField{"entries", "last_seq", "ENTRIES", true},
    RunField{"pass", "stuck_pass", "PASS", false, 36, 0, 0, Kind::kId},
    RunField{"recorder", "recorder", "RECORDER", false, 16},
    RunField{"worker", "worker_process", "WORKER", false, 16},
    RunField{"sender", "sender_process", "SENDER", false, 16},
    RunField{"connection", "connection", "CONNECTION", false, 16},
};
// clang-format on

RunLayout first_fields(std::size_t count) {
  RunLayout layout;
  for (const RunField& field : kRunFields) {
    if (layout.fields.size() < count) layout.fields.push_back(&field);
  }
  return layout;
}

Result<const RunField*> field_named(std::string_view name) {
  std::string names;
  for (const RunField& field : kRunFields) {
    if (name == field.name || (!name.empty() && name == field.row_name)) return &field;
    names += (names.empty() ? "" : ", ") + std::string(field.name);
  }
  return Error{ErrorKind::kInvalid, invalid_value(name, "one of " + names)};
}

// A row's value for sorting: by number where it is one.
struct SortKey {
  bool none = true;
  double number = 0;
  std::string text;
};

SortKey sort_key(const JsonObject& run, const RunField& field, Timestamp now) {
  SortKey key;
  if (field.kind == Kind::kTook) {
    const auto duration = run_duration(run, now);
    key.none = !duration;
    if (duration) key.number = static_cast<double>(duration->count());
    return key;
  }
  key.text = field.kind == Kind::kNote       ? error_in_words(run)
             : field.kind == Kind::kJob      ? job_of(run)
             : field.kind == Kind::kProgress ? run.object("progress").text("done")
                                             : run.text(field.row_name);
  key.none = key.text.empty();
  char* end = nullptr;
  const double number = std::strtod(key.text.c_str(), &end);
  if (!key.none && *end == '\0' && field.kind != Kind::kId && std::isfinite(number)) key.number = number;
  return key;
}

bool comes_before(const SortKey& a, const SortKey& b, bool highest_first) {
  if (a.none || b.none) return !a.none && b.none;
  if (a.number != b.number) return highest_first ? a.number > b.number : a.number < b.number;
  return highest_first ? a.text > b.text : a.text < b.text;
}

}  // namespace

Colour colour_of_status(std::string_view status) {
  if (status == "running") return Colour::kCyan;
  if (status == "completed") return Colour::kGreen;
  if (status == "failed") return Colour::kRed;
  if (status == "stuck") return Colour::kMagenta;
  if (status == "cancelled") return Colour::kYellow;
  return Colour::kDim;
}

Colour colour_of_verdict(std::string_view verdict) {
  if (verdict == "alive") return Colour::kGreen;
  if (verdict == "stuck") return Colour::kMagenta;
  if (verdict == "unknown") return Colour::kYellow;
  return Colour::kDim;
}

std::string time_and_age(const std::optional<Timestamp>& time, Timestamp now) {
  if (!time) return "-";
  return fmt::format("{} ({})", local_time(*time), age_in_words(*time, now));
}

std::vector<std::string> run_field_names() {
  std::vector<std::string> names;
  names.reserve(kRunFields.size());
  for (const RunField& field : kRunFields) names.emplace_back(field.name);
  return names;
}

RunLayout usual_layout() {
  return first_fields(kUsualFields);
}

RunLayout wide_layout() {
  return first_fields(kWideFields);
}

Result<RunLayout> layout_of(std::string_view names) {
  RunLayout layout;
  layout.chosen = true;
  for (;;) {
    const std::size_t comma = std::min(names.find(','), names.size());
    const Result<const RunField*> field = field_named(names.substr(0, comma));
    if (!field) return field.error();
    layout.fields.push_back(*field);
    if (comma == names.size()) return layout;
    names.remove_prefix(comma + 1);
  }
}

RunView::RunView(RunLayout layout, const Terminal& terminal, Timestamp now)
    : layout_(std::move(layout)),
      for_people_(terminal.columns > 0),
      now_(now),
      ids_(terminal),
      progress_in_note_(std::ranges::none_of(layout_.fields,
                                             [](const RunField* field) { return field->kind == Kind::kProgress; })) {}

std::vector<Column> RunView::columns() const {
  std::vector<Column> columns;
  for (const RunField* field : layout_.fields) {
    const bool always = layout_.chosen || field == &kRunFields[0] || field->kind == Kind::kStatus;
    columns.push_back({.title = field->title,
                       .right = field->right,
                       .shrinks_to = field->shrinks_to,
                       .optional = layout_.chosen || field == layout_.sorted_by ? 0 : field->optional,
                       .only_with_values = !always,
                       .readable = field->readable});
  }
  return columns;
}

std::vector<Cell> RunView::cells(const JsonObject& run) const {
  const std::string status = run.text("status");
  const auto moment = [&](const char* column) -> std::string {
    const std::optional<Timestamp> time = run.time(column);
    if (!time) return {};
    return for_people_ ? short_local_time(*time, now_) : local_time_with_offset(*time);
  };
  const auto note = [&] {
    const std::string words = error_in_words(run);
    return words.empty() && status == "running" && progress_in_note_ ? progress_in_words(run) : words;
  };
  const auto cell = [&](const RunField& field) -> Cell {
    switch (field.kind) {
      case Kind::kText:
        return {run.text(field.row_name)};
      case Kind::kTime:
        return {moment(field.row_name)};
      case Kind::kId:
        return {ids_.of(run.text(field.row_name))};
      case Kind::kStatus:
        return {status, colour_of_status(status)};
      case Kind::kNote:
        return {note(), Colour::kDim};
      case Kind::kTook: {
        const auto duration = run_duration(run, now_);
        return {duration ? duration_in_words(*duration) : "", status == "running" ? Colour::kDim : Colour::kNone};
      }
      case Kind::kJob:
        return {job_of(run)};
      case Kind::kProgress:
        return {progress_in_words(run)};
      case Kind::kUsage:
        return {usage_in_words(run)};
    }
    return {};
  };
  std::vector<Cell> cells;
  for (const RunField* field : layout_.fields) cells.push_back(cell(*field));
  return cells;
}

Result<RunSorting> RunSorting::parse(std::string_view text) {
  RunSorting sorting;
  sorting.highest_first_ = text.starts_with('-');
  if (sorting.highest_first_) text.remove_prefix(1);
  const Result<const RunField*> field = field_named(text);
  if (!field) return field.error();
  sorting.field_ = *field;
  return sorting;
}

void RunSorting::show_in(RunLayout& layout) const {
  layout.sorted_by = field_;
  const bool there = std::ranges::count(layout.fields, field_) > 0;
  if (!there && !layout.chosen) layout.fields.push_back(field_);
}

void RunSorting::sort(std::vector<std::string>& runs, Timestamp now) const {
  std::vector<std::pair<SortKey, std::string>> keyed;
  keyed.reserve(runs.size());
  for (std::string& run : runs) {
    SortKey key = sort_key(JsonObject(run), *field_, now);
    keyed.emplace_back(std::move(key), std::move(run));
  }
  std::ranges::stable_sort(
      keyed, [this](const auto& a, const auto& b) { return comes_before(a.first, b.first, highest_first_); });
  for (std::size_t i = 0; i < keyed.size(); ++i) runs[i] = std::move(keyed[i].second);
}

std::string job_of(const JsonObject& run) {
  const std::string job = run.text("job_id");
  return job.empty() ? run.text("oban_job_id") : job;
}

std::string progress_in_words(const JsonObject& run) {
  const JsonObject progress = run.object("progress");
  if (progress.raw("done").empty()) return {};
  std::string words = number_in_words(progress.text("done"));
  const std::string unit = progress.text("unit");
  const std::string total = progress.text("total");
  if (!total.empty()) words += " of " + number_in_words(total);
  if (!unit.empty()) words += " " + unit;
  const double percent =
      100 * std::strtod(progress.text("done").c_str(), nullptr) / std::strtod(total.c_str(), nullptr);
  if (!total.empty() && std::isfinite(percent)) words += fmt::format(" ({:.0f} %)", std::floor(percent));
  return words;
}

std::string usage_in_words(const JsonObject& run) {
  std::string words;
  const JsonObject usage = run.object("usage");
  for (const JsonMember& member : usage.members()) {
    words += fmt::format("{}{} {}", words.empty() ? "" : ", ", member.key, number_in_words(member.value));
  }
  return words;
}

std::optional<std::chrono::milliseconds> run_duration(const JsonObject& run, Timestamp now) {
  const std::optional<Timestamp> started = run.time("started_at");
  if (!started) return std::nullopt;
  std::optional<Timestamp> ended = run.time("finalized_at");
  // A stuck row was finalized by whoever found it, which says nothing of how long it ran.
  if (run.text("status") == "stuck") return std::nullopt;
  if (!ended && run.text("status") != "running") return std::nullopt;
  return std::max(std::chrono::milliseconds(0),
                  std::chrono::duration_cast<std::chrono::milliseconds>(ended.value_or(now) - *started));
}

std::string error_in_words(const JsonObject& run) {
  const JsonObject error = run.object("error");
  if (error.text("kind") == "stuck") return error.text("reason");
  const std::vector<std::string_view> errors = error.elements("errors");
  if (errors.empty()) return {};
  const std::string_view first = errors.front();
  if (json_type(first) != JsonType::kObject) return json_plain_text(first);
  const JsonObject object(first);
  const std::string message = object.text("message");
  return message.empty() ? object.text("kind") : message;
}

}  // namespace run_recorder
