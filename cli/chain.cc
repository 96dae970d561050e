// `run-recorder chain`: all attempts of what a run is an attempt of.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <memory>

#include "cli/about_run.h"
#include "cli/command.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/timeline.h"
#include "cli/whole_id.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLongestCell = 1'000;    // as notes may be
constexpr std::ptrdiff_t kTimelineAt = 3;      // behind run, name and status
constexpr std::uint64_t kWholeChain = 10'000;  // the daemon gives a thousand

// What the table of a chain shows of a run: a thousand whole ones may be large.
struct Attempt {
  std::vector<Cell> cells;
  Colour colour = Colour::kNone;
  std::optional<Timestamp> started;
  Timestamp ended;  // or now
};

Attempt attempt_of(const JsonObject& run, const RunView& view, Timestamp now) {
  Attempt attempt{.cells = view.cells(run),
                  .colour = colour_of_status(run.text("status")),
                  .started = run.time("started_at"),
                  .ended = run.time("finalized_at").value_or(now)};
  for (Cell& cell : attempt.cells) {
    if (cell.text.size() > kLongestCell) cell.text = fit(cell.text, kLongestCell);
  }
  return attempt;
}

int show_chain(const Context& context, const std::string& run_id) {
  const Timestamp now = now_utc();
  const Terminal terminal = terminal_of(1);
  RunView view(usual_layout(), terminal, now);
  std::vector<Attempt> attempts;
  const auto take = [&](const std::vector<std::string_view>& items) {
    if (context.json) return print_json_lines(items);
    for (const std::string_view item : items) view.include(JsonObject(item));
    for (const std::string_view item : items) attempts.push_back(attempt_of(JsonObject(item), view, now));
  };
  const Result<Listed> listed = ask_by_id(context.client, Ids::kRuns, run_id, [&](const std::string& id) {
    return list_pages(context.client, Target(run_path(id, "/chain")), "runs", kWholeChain, take);
  });
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (listed->truncated) {
    complain(
        fmt::format("the chain has more attempts than the {} nearest to {} that are shown; ask for the first or "
                    "the last of these to see further",
                    listed->items, run_id));
  }
  if (context.json) return kExitDone;
  Timeline span(terminal);
  for (const Attempt& attempt : attempts) {
    span.include(attempt.started);
    if (attempt.started) span.include(attempt.ended);
  }
  std::vector<Column> columns = view.columns();
  columns.insert(columns.begin() + kTimelineAt, {.title = "TIMELINE", .optional = 1});
  Table table(columns, terminal);
  for (Attempt& attempt : attempts) {
    const std::string drawn = attempt.started ? span.draw(*attempt.started, attempt.ended) : "";
    attempt.cells.insert(attempt.cells.begin() + kTimelineAt, {drawn, attempt.colour});
    table.add(std::move(attempt.cells));
  }
  print(table.render());
  return kExitDone;
}

}  // namespace

extern const Command kChainCommand = {"chain", "Show all attempts of a run's chain", declare_about_run<show_chain>};

}  // namespace run_recorder
