// "Did you mean": the known name nearest to a mistyped one. Pure, thread-safe.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace run_recorder {

// Empty where none is near.
std::string nearest_name(std::string_view mistyped, std::span<const std::string> known);
// "; did you mean NAME?", or empty where none is near.
std::string did_you_mean(std::string_view mistyped, std::span<const std::string> known);

}  // namespace run_recorder
