// What a command that asks the daemon gets: the control socket, and how to show the answers. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "cli/control_client.h"
#include "cli/json_object.h"
#include "cli/table.h"

namespace run_recorder {

struct Context {
  ControlClient client;
  bool json = false;  // the daemon's own objects, one a line, instead of tables
};

// The items as lines, each as the daemon wrote it.
void print_json_lines(const std::vector<std::string_view>& items);
// Lists, printing each page as it comes: the items as lines, or in table, with the cells that row makes of each.
Result<Listed> print_pages(const Context& context, const Target& target, std::string_view name, std::uint64_t limit,
                           Table& table, const std::function<std::vector<Cell>(const JsonObject&)>& row);

// Says on standard error that the answer is not quite up to date.
void hint_pending(std::uint64_t pending);

// Says on standard error that the list goes on. noun: "run".
void hint_more(const Listed& listed, std::string_view noun);

}  // namespace run_recorder
