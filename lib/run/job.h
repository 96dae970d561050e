// How a row names the job it works on. Pure, thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

namespace run_recorder {

// The queue of an event that names none, where several are configured.
inline constexpr std::string_view kDefaultQueue = "default";
inline constexpr std::string_view kDefaultJobTable = "oban_jobs";
// How far the clocks of those who claim jobs and of those who say that runs started may differ.
inline constexpr std::chrono::milliseconds kDefaultClockSkew{10'000};

// The id of a job that is an integer, 1 … 2^63-1 in its shortest form: "7", not "07" or "+7". Such a row has it as
// oban_job_id too. Empty: any other text.
std::optional<std::int64_t> job_number(std::string_view job_id);

}  // namespace run_recorder
