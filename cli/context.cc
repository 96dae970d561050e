#include "cli/context.h"

#include <fmt/format.h>

#include <string>

#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {

void print_json_lines(const std::vector<std::string_view>& items) {
  std::string lines;
  for (const std::string_view item : items) lines.append(item).append("\n");
  print_json(lines);
}

Result<Listed> print_pages(const Context& context, const Target& target, std::string_view name, std::uint64_t limit,
                           Table& table, const std::function<std::vector<Cell>(const JsonObject&)>& row) {
  return list_pages(context.client, target, name, limit, [&](const std::vector<std::string_view>& items) {
    if (context.json) return print_json_lines(items);
    for (const std::string_view item : items) table.add(row(JsonObject(item)));
    if (!table.empty()) print(table.render());
  });
}

void hint_pending(std::uint64_t pending) {
  if (pending == 0) return;
  complain(fmt::format("{} not applied yet when this was read; look again for {}", count_of(pending, "event"),
                       pending == 1 ? "it" : "them"));
}

void hint_more(const Listed& listed, std::string_view noun) {
  if (!listed.cut_at.empty()) return complain(fmt::format("older ones than of {} were not looked at", listed.cut_at));
  if (listed.more) {
    complain(fmt::format("there are more than {}; --limit and --all show them", count_of(listed.items, noun)));
  }
}

}  // namespace run_recorder
