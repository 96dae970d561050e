// A run, as the daemon's JSON has it, in words, colours and columns of a table. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "cli/json_object.h"
#include "cli/short_ids.h"
#include "cli/table.h"

namespace run_recorder {

Colour colour_of_status(std::string_view status);
Colour colour_of_verdict(std::string_view verdict);
// "2026-01-02 03:04:05 CET (3 min ago)"; "-" where there is none.
std::string time_and_age(const std::optional<Timestamp>& time, Timestamp now);

// What a table of runs shows of each, by the names that --columns and --sort take. A run's name is the row's
// `council`.
struct RunField;
std::vector<std::string> run_field_names();
struct RunLayout {
  std::vector<const RunField*> fields;
  bool chosen = false;                  // by name: shown also where they are empty, and whatever the room
  const RunField* sorted_by = nullptr;  // shown whatever the room
};
RunLayout usual_layout();
RunLayout wide_layout();  // with queue, host, parent, times, usage and progress too
// By names with commas between them: the field's own or the row's. kInvalid names those that there are.
Result<RunLayout> layout_of(std::string_view names);

// The rows of one table, or of one picture that is drawn again and again.
class RunView {
 public:
  RunView(RunLayout layout, const Terminal& terminal, Timestamp now);
  std::vector<Column> columns() const;
  // Before the cells of any run that is shown beside it: how short ids may be follows from all of them.
  void include(const JsonObject& run) { ids_.include(run.text("run_id")); }
  std::vector<Cell> cells(const JsonObject& run) const;
  void set_now(Timestamp now) { now_ = now; }

 private:
  RunLayout layout_;
  bool for_people_;  // a terminal; else whole times
  Timestamp now_;
  ShortIds ids_;
  bool progress_in_note_;
};

// What runs are sorted by: "took", or "-took" for the highest first. Where a run has no value it comes last.
class RunSorting {
 public:
  static Result<RunSorting> parse(std::string_view text);
  // What the runs are sorted by is to be seen.
  void show_in(RunLayout& layout) const;
  // Sorts the daemon's texts of runs; those that are alike stay in their order.
  void sort(std::vector<std::string>& runs, Timestamp now) const;

 private:
  const RunField* field_ = nullptr;
  bool highest_first_ = false;
};

// The id of its job, as text; empty where it names none.
std::string job_of(const JsonObject& run);
// From started_at to finalized_at, or to now while it is running; empty where it has not started.
std::optional<std::chrono::milliseconds> run_duration(const JsonObject& run, Timestamp now);
// "3 of 10 rows (30 %)", "3 rows"; empty where nothing was said.
std::string progress_in_words(const JsonObject& run);
// "input_tokens 1,234, cost_usd 0.12"; empty where nothing was said.
std::string usage_in_words(const JsonObject& run);
// What its error says, in a few words; empty where there is none.
std::string error_in_words(const JsonObject& run);

}  // namespace run_recorder
