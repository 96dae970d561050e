#include "cli/run_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "cli/text.h"

namespace run_recorder {

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
  std::string text = format_rfc3339(*time).substr(0, 19);
  text[10] = ' ';
  return fmt::format("{}Z ({})", text, age_in_words(*time, now));
}

std::vector<Column> run_columns(RunWidth width) {
  // 36: a UUID is never cut.
  std::vector<Column> columns = {{.title = "RUN", .shrinks_to = 36},
                                 {.title = "COUNCIL", .shrinks_to = 7},
                                 {.title = "STATUS"},
                                 {.title = "ATTEMPT", .right = true, .optional = 5},
                                 {.title = "JOB", .right = true, .optional = 6},
                                 {.title = "STARTED", .optional = 2},
                                 {.title = "TOOK", .right = true, .optional = 3},
                                 {.title = "NOTE", .shrinks_to = 16, .optional = 4}};
  if (width == RunWidth::kUsual) return columns;
  const std::vector<Column> more = {{.title = "QUEUE", .optional = 8},
                                    {.title = "PARENT", .shrinks_to = 36, .optional = 11},
                                    {.title = "RECORDED", .optional = 10},
                                    {.title = "LAST EVENT", .optional = 7},
                                    {.title = "PROGRESS", .shrinks_to = 10, .optional = 1},
                                    {.title = "USAGE", .shrinks_to = 16, .optional = 1}};
  columns.insert(columns.end() - 1, more.begin(), more.end());
  return columns;
}

std::vector<Cell> run_cells(const JsonObject& run, Timestamp now, RunWidth width) {
  const std::string status = run.text("status");
  const auto age = [&](std::string_view column) {
    const std::optional<Timestamp> time = run.time(column);
    return time ? age_in_words(*time, now) : std::string();
  };
  const bool wide = width == RunWidth::kWide;
  const std::optional<std::chrono::milliseconds> duration = run_duration(run, now);
  std::string note = error_in_words(run);
  if (note.empty() && status == "running" && !wide) note = progress_in_words(run);
  std::vector<Cell> cells = {
      {run.text("run_id"), Colour::kNone},
      {run.text("council"), Colour::kNone},
      {status, colour_of_status(status)},
      {run.text("attempt"), Colour::kNone},
      {job_of(run), Colour::kNone},
      {age("started_at"), Colour::kNone},
      {duration ? duration_in_words(*duration) : "", status == "running" ? Colour::kDim : Colour::kNone},
      {note, Colour::kDim}};
  if (!wide) return cells;
  const std::vector<Cell> more = {{run.text("queue")},      {run.text("parent_attempt_run_id")},
                                  {age("inserted_at")},     {age("last_event_at")},
                                  {progress_in_words(run)}, {usage_in_words(run)}};
  cells.insert(cells.end() - 1, more.begin(), more.end());
  return cells;
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
