// `run-recorder list`: runs, the newest first.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "cli/command.h"
#include "cli/follow.h"
#include "cli/interrupt.h"
#include "cli/run_query.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

struct ListOptions {
  RunQuery query;
  bool follow = false, wide = false;
  std::optional<std::string> columns, sort;
  std::chrono::milliseconds interval{1'000};
};

// A page's runs, as they were or sorted, in the table or as lines.
void print_runs(const Context& context, const std::vector<std::string_view>& runs, RunView& view, Table& table) {
  if (context.json) return print_json_lines(runs);
  for (const std::string_view run : runs) view.include(JsonObject(run));
  for (const std::string_view run : runs) table.add(view.cells(JsonObject(run)));
  if (!table.empty()) print(table.render());
}

void say_none(const Context& context, const RunQuery& query) {
  const std::string nobody = query.council ? nobody_of_that_name(context.client, *query.council) : std::string();
  complain(nobody.empty() ? "no such runs" : "no such runs: " + nobody);
}

int list_runs(const Context& context, const RunQuery& query, const RunLayout& layout,
              const std::optional<RunSorting>& sorting) {
  const Terminal terminal = terminal_of(1);
  const Timestamp now = now_utc();
  RunView view(layout, terminal, now);
  Table table(view.columns(), terminal);
  std::vector<std::string> all;
  const Interrupt interrupt;
  const auto take = [&](const std::vector<std::string_view>& items) {
    if (sorting) {
      all.insert(all.end(), items.begin(), items.end());
    } else {
      print_runs(context, items, view, table);
    }
  };
  const Result<Listed> listed =
      list_pages(context.client, query.target(), "runs", query.limit, take, {.shows_progress = true});
  if (!listed) return fail(listed.error());
  if (sorting) {
    sorting->sort(all, now);
    print_runs(context, {all.begin(), all.end()}, view, table);
  }
  hint_pending(listed->pending);
  if (!listed->cut_at.empty()) {
    hint_more(*listed, "run");
    Interrupt::end_by_it();
  } else if (!context.json) {
    if (listed->items == 0) say_none(context, query);
    hint_more(*listed, "run");
  }
  return kExitDone;
}

template <class T>
T value_of_flag(const char* flag, Result<T> value) {
  if (!value) throw StartError(kExitUsage, fmt::format("{}: {}", flag, value.error().message));
  return std::move(*value);
}

int run_list(const Context& context, ListOptions& options, bool limit_given) {
  RunQuery& query = options.query;
  RunLayout layout = options.wide ? wide_layout() : usual_layout();
  if (options.columns) layout = value_of_flag("--columns", layout_of(*options.columns));
  std::optional<RunSorting> sorting;
  if (options.sort) sorting = value_of_flag("--sort", RunSorting::parse(*options.sort));
  if (sorting && options.follow) {
    throw StartError(kExitUsage, "--sort: not together with --follow, which prints runs as they change");
  }
  if (sorting) sorting->show_in(layout);
  if (const Result<void> complete = query.complete(context.client); !complete) return fail(complete.error());
  if (options.follow) {
    query.limit = std::min(query.limit, kFollowedRuns);
    return follow_runs(context, query, options.interval, layout);
  }
  // What a pass has marked is wanted whole.
  if (query.pass && !limit_given) query.limit = kNoLimit;
  return list_runs(context, query, layout, sorting);
}

Handler declare_list(Flags flags) {
  const auto options = std::make_shared<ListOptions>();
  options->query.declare(flags);
  flags.limit(options->query.limit, "runs");
  flags.on("--wide", options->wide, "Show queue, host, parent, more times, progress and usage too");
  flags.text("--columns", options->columns,
             "Show these, several by comma: run,name,status,note,…; also the row's own names", "NAMES");
  flags.text("--sort", options->sort, "Sort what is listed by one of these; -took for the highest first", "NAME");
  flags.on("--follow,-f", options->follow,
           "Keep printing runs that are new or change their status, of the newest (--limit, at most 200)");
  flags.interval(options->interval, "The time between refreshes of --follow");
  return [options, flags](const Invocation& invocation) {
    return run_list(invocation.context(), *options, flags.given("--limit"));
  };
}

}  // namespace

extern const Command kListCommand = {
    "list", "List runs, the newest first", declare_list,
    "  run-recorder list --status stuck,failed --since yesterday\n  run-recorder list --name 'nightly-*' --sort -took\n"
    "  run-recorder list --json --all | jq .council"};

}  // namespace run_recorder
