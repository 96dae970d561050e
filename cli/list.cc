// `run-recorder list`: runs, the newest first.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/follow.h"
#include "cli/run_query.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

int list_runs(const Context& context, const RunQuery& query, RunWidth width) {
  const Terminal terminal = terminal_of(1);
  Table table(run_columns(width), terminal);
  const Timestamp now = now_utc();
  const Result<Listed> listed = print_pages(context, query.target(), "runs", query.limit, table,
                                            [&](const JsonObject& run) { return run_cells(run, now, width); });
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json) {
    if (listed->items == 0) complain("no such runs");
    hint_more(*listed, "run");
  }
  return kExitDone;
}

struct ListOptions {
  RunQuery query;
  bool follow = false, wide = false;
  std::chrono::milliseconds interval{1'000};
};

Handler declare_list(Flags flags) {
  const auto options = std::make_shared<ListOptions>();
  options->query.declare(flags);
  flags.limit(options->query.limit, "runs");
  flags.on("--wide", options->wide, "Show queue, parent, ages, progress and usage too");
  flags.on("--follow,-f", options->follow, "Keep printing runs that are new or change their status");
  flags.duration("--interval", options->interval, "The time between refreshes of --follow");
  return [options, flags](const Invocation& invocation) {
    RunQuery& query = options->query;
    const RunWidth width = options->wide ? RunWidth::kWide : RunWidth::kUsual;
    if (options->follow) {
      query.limit = std::min(query.limit, kFollowedRuns);
      return follow_runs(invocation.context(), query, options->interval, width);
    }
    // What a pass has marked is wanted whole.
    if (query.pass && !flags.given("--limit")) query.limit = kNoLimit;
    return list_runs(invocation.context(), query, width);
  };
}

}  // namespace

extern const Command kListCommand = {
    "list", "List runs, the newest first", declare_list,
    "  run-recorder list --status stuck,failed --since 24h\n  run-recorder list --json --all | jq .council"};

}  // namespace run_recorder
