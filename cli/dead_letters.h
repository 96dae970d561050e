// `run-recorder dead-letters list`, `show`, `retry` and `delete`. Each returns the exit status.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"

namespace run_recorder {

int list_dead_letters(const Context& context, std::uint64_t limit);
int show_dead_letter(const Context& context, const std::string& id);
// 1 where one of them is refused again, or is not there.
int retry_dead_letters(const Context& context, const std::vector<std::string>& ids);
int delete_dead_letters(const Context& context, const std::vector<std::string>& ids);

}  // namespace run_recorder
