// What a command that asks the daemon gets: the control socket, and how to show the answers. One thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "cli/control_client.h"

namespace run_recorder {

struct Context {
  ControlClient client;
  bool json = false;  // the daemon's own objects, one a line, instead of tables
};

// The items as lines, each as the daemon wrote it.
void print_json_lines(const std::vector<std::string_view>& items);
// Says on standard error that the answer is not quite up to date.
void hint_pending(std::uint64_t pending);

// Says on standard error that the list goes on. noun: "run".
void hint_more(const Listed& listed, std::string_view noun);

}  // namespace run_recorder
