// `run-recorder reconcile` and `reconciliations`. Each returns the exit status.
#include <fmt/format.h>

#include <cstdint>
#include <future>
#include <memory>
#include <string>

#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/context.h"
#include "cli/progress.h"
#include "cli/run_view.h"
#include "cli/short_ids.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/whole_id.h"

namespace run_recorder {
namespace {

struct ReconcileOptions {
  bool dry_run = false;
  bool unvouched = false;  // rows that nobody vouches for are stuck, as in the boot pass
  bool force = false;      // also more than [reconcile] max_stuck
};

constexpr std::chrono::milliseconds kPassProgressEvery{250};

std::string reasons_in_words(const JsonObject& report) {
  std::string words;
  const JsonObject reasons = report.object("reasons");
  for (const JsonMember& reason : reasons.members()) {
    words += fmt::format("{}{} {}", words.empty() ? "" : ", ", reason.value, reason.key);
  }
  return words;
}

std::string counts_in_words(const JsonObject& report) {
  const auto count = [&](const char* key) { return with_separators(report.count(key)); };
  return fmt::format("{} examined: {} alive, {} stuck, {} unknown, {} raced, {} foreign; {} deferred",
                     count("examined"), count("alive"), count("stuck"), count("unknown"), count("raced"),
                     count("foreign"), count("deferred"));
}

std::string report_for_people(const JsonObject& report, const Terminal& terminal) {
  Facts facts(terminal);
  facts.add("pass", report.text("pass_id"), Colour::kBold);
  facts.add("found", counts_in_words(report));
  if (const std::string reasons = reasons_in_words(report); !reasons.empty()) facts.add("reasons", reasons);
  const std::string marked = report.text("marked");
  facts.add("marked stuck", report.is_true("dry_run") ? "none (a dry run)" : marked,
            marked == "0" || marked.empty() ? Colour::kNone : Colour::kMagenta);
  std::string out = facts.render();

  ShortIds ids(terminal);
  for (const std::string_view item : report.elements("runs")) ids.include(JsonObject(item).text("run_id"));
  Table table({{.title = "RUN", .shrinks_to = 36},
               {.title = "NAME", .shrinks_to = 7},
               {.title = "ATTEMPT", .right = true, .optional = 3},
               {.title = "JOB", .right = true, .optional = 2},
               {.title = "SILENT FOR", .right = true, .optional = 1},
               {.title = "VERDICT"},
               {.title = "REASON"}},
              terminal);
  for (const std::string_view item : report.elements("runs")) {
    const JsonObject run(item);
    const std::string verdict = run.text("verdict");
    const auto age = run.integer("age_seconds");
    table.add({{ids.of(run.text("run_id"))},
               {run.text("council")},
               {run.text("attempt")},
               {run.text("oban_job_id")},
               {age ? duration_in_words(std::chrono::seconds(*age)) : ""},
               {verdict, colour_of_verdict(verdict)},
               {run.text("reason")}});
  }
  if (!table.empty()) out += "\n" + table.render();
  return out;
}

// The pass's answer; until it is there, how far the pass has come.
Result<ControlAnswer> make_pass(const Context& context, JsonText request) {
  auto outcome = std::async(std::launch::async, [&context, request = std::move(request)]() mutable {
    return context.client.post("/v1/reconcile", std::move(request));
  });
  Progress progress;
  while (outcome.wait_for(kPassProgressEvery) != std::future_status::ready) {
    if (!progress.wanted()) continue;
    const Result<ControlAnswer> status = context.client.get("/v1/status");
    if (!status) continue;
    const JsonObject pass = JsonObject(status->body).object("reconciliation").object("under_way");
    if (pass.members().empty()) {
      progress.show("waiting until what was received is applied");
    } else {
      progress.show(fmt::format("{} examined, {} marked", count_of(pass.count("examined"), "run"),
                                with_separators(pass.count("marked"))));
    }
  }
  return outcome.get();
}

int reconcile(const Context& context, const ReconcileOptions& options) {
  JsonWriter request;
  request.flag("dry_run", options.dry_run);
  request.flag("unvouched", options.unvouched);
  request.flag("force", options.force);
  const Result<ControlAnswer> answer = make_pass(context, std::move(request).object());
  if (!answer) return fail(answer.error());
  const JsonObject report(answer->body);
  if (context.json) {
    print_json_lines({answer->body});
  } else {
    print(report_for_people(report, terminal_of(1)));
    if (report.is_true("truncated")) {
      complain(
          fmt::format("there were more; run-recorder list --pass {} shows all it marked", report.text("pass_id")));
    }
  }
  if (!report.is_true("stopped")) return kExitDone;
  complain(
      "nothing was marked: the pass would mark more than [reconcile] max_stuck allows; --force marks them all the "
      "same");
  return kExitOther;
}

int undo_reconciliation(const Context& context, const std::string& pass_id) {
  const Result<ControlAnswer> answer = ask_by_id(context.client, Ids::kPasses, pass_id, [&](const std::string& id) {
    return context.client.post("/v1/reconciliations/" + percent_encoded(id) + "/undo", "{}");
  });
  if (!answer) return fail(answer.error());
  if (context.json) {
    print_json_lines({answer->body});
    return kExitDone;
  }
  const JsonObject object(answer->body);
  print(fmt::format("{} running again; {} had moved since and stayed\n", count_of(object.count("undone"), "run"),
                    with_separators(object.count("moved"))));
  return kExitDone;
}

int list_reconciliations(const Context& context, std::uint64_t limit) {
  const Terminal terminal = terminal_of(1);
  ShortIds ids(terminal);
  Table table({{.title = "PASS"},
               {.title = "WHEN"},
               {.title = "TRIGGER"},
               {.title = "TOOK", .right = true},
               {.title = "MARKED", .right = true},
               {.title = "FOUND", .shrinks_to = 20, .optional = 1}},
              terminal);
  const Timestamp now = now_utc();
  const auto cells = [&](const JsonObject& pass) -> std::vector<Cell> {
    const JsonObject report = pass.object("report");
    const auto started = pass.time("started_at");
    const auto finished = pass.time("finished_at");
    const std::string marked = report.text("marked");
    return {{ids.of(pass.text("pass_id"))},
            {started ? age_in_words(*started, now) : ""},
            {pass.text("trigger") + (report.is_true("dry_run") ? " (dry run)" : "")},
            {started && finished
                 ? duration_in_words(std::chrono::duration_cast<std::chrono::milliseconds>(*finished - *started))
                 : ""},
            {marked, marked == "0" ? Colour::kDim : Colour::kMagenta},
            {counts_in_words(report), Colour::kDim}};
  };
  const Result<Listed> listed =
      list_pages(context.client, Target("/v1/reconciliations"), "reconciliations", limit, [&](const auto& items) {
        if (context.json) return print_json_lines(items);
        for (const std::string_view item : items) ids.include(JsonObject(item).text("pass_id"));
        for (const std::string_view item : items) table.add(cells(JsonObject(item)));
        if (!table.empty()) print(table.render());
      });
  if (!listed) return fail(listed.error());
  if (!context.json && listed->items == 0)
    complain("there is no report of a pass: none has been made yet, or [retention] passes has removed it");
  return kExitDone;
}

constexpr Flags::Bounds kPasses{1, 1'000'000};

Handler declare_reconcile(Flags flags) {
  struct Values {
    ReconcileOptions options;
    std::string undo;
  };
  const auto values = std::make_shared<Values>();
  ReconcileOptions& options = values->options;
  flags.text("--undo", values->undo, "Return the runs of this pass to running, unless they changed since", "PASS");
  flags.on_without("--dry-run", options.dry_run, "Report only, change no run", "--undo");
  flags.on_without("--unvouched", options.unvouched,
                   "Mark runs without a live worker, sender or job, as after a boot", "--undo");
  flags.on_without("--force", options.force, "Mark also more than [reconcile] max_stuck allows", "--undo");
  return [values](const Invocation& invocation) {
    return values->undo.empty() ? reconcile(invocation.context(), values->options)
                                : undo_reconciliation(invocation.context(), values->undo);
  };
}

Handler declare_reconciliations(Flags flags) {
  const auto limit = std::make_shared<std::uint64_t>(20);
  flags.number("--limit", *limit, "At most N passes", kPasses);
  return [limit](const Invocation& invocation) { return list_reconciliations(invocation.context(), *limit); };
}

}  // namespace

extern const Command kReconcileCommand = {
    "reconcile", "Make a pass now: compare the runs that say running with what is really alive", declare_reconcile,
    "  run-recorder reconcile --dry-run\n  run-recorder reconcile --undo 01890a5d-ac96-774b-bcce-b302099a8057"};
extern const Command kReconciliationsCommand = {"reconciliations", "List the passes that were made, the newest first",
                                                declare_reconciliations};

}  // namespace run_recorder
