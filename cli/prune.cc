// `run-recorder prune`: removes finished runs whose time is over. Returns the exit status.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/context.h"
#include "cli/event_line.h"
#include "cli/json_object.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

struct PruneOptions {
  bool dry_run = false;
  std::vector<std::string> statuses;
  std::optional<std::string> council, older_than;
};

// So many rows a request: each is soon done, and says how far it has come.
constexpr std::int64_t kRowsAtOnce = 2'000;

struct PruneSum {
  std::uint64_t examined = 0, runs = 0, events = 0, kept = 0;
  bool nothing_due = false;
};

std::string request_body(const PruneOptions& options, const std::string& cursor) {
  EventLine body;
  body.flag("dry_run", options.dry_run).number("limit", kRowsAtOnce);
  if (!options.statuses.empty()) body.json("status", json_list(options.statuses));
  if (options.council) body.text("council", *options.council);
  if (options.older_than) body.text("older_than", *options.older_than);
  if (!cursor.empty()) body.text("cursor", cursor);
  return body.str();
}

void say(const PruneSum& sum, const PruneOptions& options) {
  if (sum.nothing_due) {
    complain(
        "[retention] keeps all runs for ever, so nothing was removed; --older-than names an age, as --older-than "
        "90d");
    return;
  }
  print(fmt::format("{} {}, with {} of their history; {} examined\n", count_of(sum.runs, "run"),
                    options.dry_run ? "would be removed" : "removed", count_of(sum.events, "event"),
                    with_separators(sum.examined)));
  if (sum.kept > 0) {
    print(
        fmt::format("{} kept though the time is over: a run of the same chain stays, or an event is a dead letter\n",
                    count_of(sum.kept, "run")));
  }
}

int prune(const Context& context, const PruneOptions& options) {
  PruneSum sum;
  std::string cursor;
  {
    Progress progress;
    do {
      const Result<ControlAnswer> answer = context.client.post("/v1/prune", request_body(options, cursor));
      if (!answer) {
        progress.clear();
        if (sum.runs > 0 && !options.dry_run) {
          complain(fmt::format("{} removed before this:", count_of(sum.runs, "run")));
        }
        return fail(answer.error());
      }
      const JsonObject report(answer->body);
      sum.examined += report.count("examined");
      sum.runs += report.count("runs");
      sum.events += report.count("events");
      sum.kept += report.count("kept");
      sum.nothing_due = report.is_true("nothing_due");
      cursor = report.text("next");
      progress.show(fmt::format("{} examined, {} {}", with_separators(sum.examined), count_of(sum.runs, "run"),
                                options.dry_run ? "to be removed" : "removed"));
    } while (!cursor.empty());
  }
  if (!context.json) {
    say(sum, options);
    return kExitDone;
  }
  EventLine line;
  line.flag("dry_run", options.dry_run).number("examined", sum.examined).number("runs", sum.runs);
  line.number("events", sum.events).number("kept", sum.kept).flag("nothing_due", sum.nothing_due);
  print_json(line.str() + "\n");
  return kExitDone;
}

Handler declare_prune(Flags flags) {
  const auto options = std::make_shared<PruneOptions>();
  flags.on("--dry-run", options->dry_run, "Count only, change nothing");
  flags.statuses("--status", options->statuses, Flags::Statuses::kFinished,
                 "Only these: completed, failed, cancelled, stuck; several by comma");
  flags.text("--council", options->council, "Only runs of this council", "NAME");
  flags.age("--older-than", options->older_than,
            "Runs whose last event was applied, or which were found stuck, longer ago than this, instead of what "
            "[retention] says");
  return [options](const Invocation& invocation) { return prune(invocation.context(), *options); };
}

}  // namespace

extern const Command kPruneCommand = {
    "prune", "Remove finished runs that [retention] no longer keeps", declare_prune,
    "The attempts of a chain are removed together, once all of them may be removed.\n"
    "\n  run-recorder prune --dry-run\n  run-recorder prune --older-than 90d --status completed"};

}  // namespace run_recorder
