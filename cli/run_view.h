// A run, as the daemon's JSON has it, in words, colours and columns of a table. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "cli/json_object.h"
#include "cli/table.h"

namespace run_recorder {

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

}  // namespace run_recorder
