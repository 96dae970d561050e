// A list of texts as one parameter of a statement, which both databases take apart again. Pure, thread-safe.
#pragma once

#include <span>
#include <string>

namespace run_recorder {

// A JSON array of strings.
std::string json_list(std::span<const std::string> texts);

}  // namespace run_recorder
