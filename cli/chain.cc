// `run-recorder chain`: all attempts of what a run is an attempt of.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/about_run.h"
#include "cli/command.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/timeline.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLongestNote = 1'000;    // of each row
constexpr std::uint64_t kWholeChain = 10'000;  // the daemon gives a thousand

// What the table of a chain shows of a run: a thousand whole ones may be large.
struct Attempt {
  std::vector<Cell> cells;
  Colour colour = Colour::kNone;
  std::optional<Timestamp> started;
  Timestamp ended;  // or now
};

Attempt attempt_of(const JsonObject& run, Timestamp now) {
  Attempt attempt{.cells = run_cells(run, now),
                  .colour = colour_of_status(run.text("status")),
                  .started = run.time("started_at"),
                  .ended = run.time("finalized_at").value_or(now)};
  std::string& note = attempt.cells.back().text;
  if (note.size() > kLongestNote) note = fit(note, kLongestNote);
  return attempt;
}

int show_chain(const Context& context, const std::string& run_id) {
  const Timestamp now = now_utc();
  const Terminal terminal = terminal_of(1);
  std::vector<Attempt> attempts;
  const Result<Listed> listed =
      list_pages(context.client, Target(run_path(run_id, "/chain")), "runs", kWholeChain, [&](const auto& items) {
        if (context.json) {
          print_json_lines(items);
          return;
        }
        for (const std::string_view item : items) attempts.push_back(attempt_of(JsonObject(item), now));
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
  std::vector<Column> columns = run_columns();
  columns.insert(columns.end() - 1, {.title = "TIMELINE", .optional = 1});
  Table table(columns, terminal);
  for (Attempt& attempt : attempts) {
    const std::string drawn = attempt.started ? span.draw(*attempt.started, attempt.ended) : "";
    attempt.cells.insert(attempt.cells.end() - 1, {drawn, attempt.colour});
    table.add(std::move(attempt.cells));
  }
  print(table.render());
  return kExitDone;
}

}  // namespace

extern const Command kChainCommand = {"chain", "Show all attempts of a run's chain", declare_about_run<show_chain>};

}  // namespace run_recorder
