// What all commands that look at the daemon share. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "cli/control_client.h"
#include "cli/json_object.h"
#include "cli/table.h"
#include "cli/terminal.h"

namespace run_recorder {

struct Looking {
  ControlClient client;
  bool json = false;  // the daemon's own objects, one a line, instead of tables
};

struct RunQuery {
  std::vector<std::string> statuses;
  std::optional<std::string> council, job, queue, oban_job_id, pass;
  std::optional<Timestamp> since, until;
  std::uint64_t limit = 50;

  Target target() const;
};

// The items as lines, each as the daemon wrote it.
void print_json_lines(const std::vector<std::string_view>& items);
// Says on standard error that the answer is not quite up to date.
void hint_pending(std::uint64_t pending);

Colour colour_of_status(std::string_view status);
Colour colour_of_verdict(std::string_view verdict);
// "2026-01-02 03:04:05Z (3 min ago)"; "-" where there is none.
std::string time_and_age(const std::optional<Timestamp>& time, Timestamp now);

// A run's row as one row of a table. kWide: with queue, parent, ages, usage and progress too.
enum class RunWidth { kUsual, kWide };
std::vector<Column> run_columns(RunWidth width = RunWidth::kUsual);
std::vector<Cell> run_cells(const JsonObject& run, Timestamp now, RunWidth width = RunWidth::kUsual);
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

// A bar of that many columns: from and to are parts (0 to 1) of its length, something is always drawn.
std::string bar(double from, double to, std::size_t columns);

// "2026-01-02T03:04:05Z", or a duration before now: "1h", "30m ago".
std::optional<Timestamp> parse_since(std::string_view text, Timestamp now);

}  // namespace run_recorder
