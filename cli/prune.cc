// `run-recorder prune`: removes finished runs whose time is over. Returns the exit status.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json_writer.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/context.h"
#include "cli/event_line.h"
#include "cli/json_object.h"
#include "cli/line_reader.h"
#include "cli/progress.h"
#include "cli/run_query.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

struct PruneOptions {
  bool dry_run = false;
  bool yes = false;
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
  if (options.council) body.text(is_pattern(*options.council) ? "council_glob" : "council", *options.council);
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

// All pages; what was done before an error is in sum.
Result<void> run_pages(const Context& context, const PruneOptions& options, PruneSum& sum) {
  Progress progress;
  std::string cursor;
  do {
    const Result<ControlAnswer> answer = context.client.post("/v1/prune", request_body(options, cursor));
    if (!answer) return answer.error();
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
  return {};
}

// "remove 1,234 finished runs with 3,702 events, older than 90d, completed, of nightly? [y/N] "
std::string question(const PruneSum& due, const PruneOptions& options) {
  std::string which;
  if (options.older_than) which += ", older than " + *options.older_than;
  std::string statuses;
  for (const std::string& status : options.statuses) statuses += (statuses.empty() ? "" : " or ") + status;
  if (!statuses.empty()) which += ", " + statuses;
  if (options.council) which += ", of " + *options.council;
  return fmt::format("remove {} with {}{}? [y/N] ", count_of(due.runs, "finished run"), count_of(due.events, "event"),
                     printable(which));
}

// Whoever sits at a terminal is asked, with what would go; scripts never are.
Result<bool> confirmed(const Context& context, const PruneOptions& options) {
  const bool somebody_is_there = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
  if (options.dry_run || options.yes || !somebody_is_there) return true;
  PruneOptions looking = options;
  looking.dry_run = true;
  PruneSum due;
  if (const auto counted = run_pages(context, looking, due); !counted) return counted.error();
  if (due.runs == 0) return true;
  (void)write_all(STDERR_FILENO, question(due, options));
  LineReader reader(STDIN_FILENO, 100);
  std::optional<LineReader::Line> line;
  while (!(line = reader.next()) && !reader.ended()) {
    if (const auto read = reader.read(); !read) return read.error();
  }
  return line && (line->text == "y" || line->text == "Y" || line->text == "yes");
}

int prune(const Context& context, const PruneOptions& options) {
  const Result<bool> wanted = confirmed(context, options);
  if (!wanted) return fail(wanted.error());
  if (!*wanted) {
    complain("nothing was removed");
    return kExitOther;
  }
  PruneSum sum;
  if (const auto done = run_pages(context, options, sum); !done) {
    if (sum.runs > 0 && !options.dry_run) complain(fmt::format("{} removed before this:", count_of(sum.runs, "run")));
    return fail(done.error());
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
  flags.on("--yes", options->yes, "Do not ask before anything is removed (on a terminal; otherwise nobody is asked)");
  flags.statuses("--status", options->statuses, Flags::Statuses::kFinished,
                 "Only these: completed, failed, cancelled, stuck; several by comma");
  flags.text("--council,--name", options->council, "Only runs of this name; * stands for any characters, ? for one",
             "NAME");
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
