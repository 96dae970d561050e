// `run-recorder expect` and `findings`: what is expected of runs, and what was found of it.
#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/context.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

Colour colour_of_state(std::string_view state) {
  if (state == "ok") return Colour::kGreen;
  return state == "late" ? Colour::kYellow : Colour::kRed;
}

std::chrono::milliseconds in_milliseconds(const JsonObject& object, std::string_view key) {
  const double seconds = std::strtod(std::string(object.raw(key)).c_str(), nullptr);
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1'000.0));
}

// "every 24h", "0 3 * * * (Europe/Berlin)"; "-" where no start is expected.
std::string when_in_words(const JsonObject& expectation) {
  const std::string cron = expectation.text("cron");
  if (!cron.empty()) return fmt::format("{} ({})", cron, expectation.text("timezone"));
  const auto every = in_milliseconds(expectation, "every_seconds");
  return every.count() == 0 ? "-" : "every " + format_duration(every);
}

std::string due_in_words(const std::optional<Timestamp>& due, Timestamp now) {
  if (!due) return "-";
  if (*due <= now) return age_in_words(*due, now);
  return "in " + duration_in_words(std::chrono::duration_cast<std::chrono::milliseconds>(*due - now));
}

int list_expectations(const Context& context) {
  Table table({{.title = "NAME", .shrinks_to = 12},
               {.title = "RUNS", .shrinks_to = 12},
               {.title = "EXPECTED", .shrinks_to = 12, .optional = 2},
               {.title = "LAST START"},
               {.title = "NEXT DUE"},
               {.title = "STATE"},
               {.title = "WHY", .shrinks_to = 24, .optional = 1}},
              terminal_of(1));
  const Timestamp now = now_utc();
  const auto cells = [&](const JsonObject& expectation) -> std::vector<Cell> {
    const auto last = expectation.time("last_start");
    const std::string state = expectation.text("state");
    return {{expectation.text("name")},
            {expectation.text("council")},
            {when_in_words(expectation)},
            {last ? age_in_words(*last, now) : "-"},
            {due_in_words(expectation.time("next_due"), now)},
            {state, colour_of_state(state)},
            {expectation.text("why")}};
  };
  const Result<Listed> listed =
      print_pages(context, Target("/v1/expectations"), "expectations", kNoLimit, table, cells);
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json && listed->items == 0) {
    complain("nothing is expected; [expect.NAME] in the daemon's configuration says what should run");
  }
  return kExitDone;
}

constexpr const char* kAnyKind = "any";

struct FindingQuery {
  bool ended = false;
  std::optional<std::string> expectation;
  std::string kind = kAnyKind;
  std::uint64_t limit = 100;
};

// What is due, or what a run may last.
std::string measure_of(const JsonObject& finding, Timestamp now) {
  if (const auto due = finding.time("due_at")) return "due " + age_in_words(*due, now);
  return "longer than " + format_duration(std::chrono::milliseconds(finding.integer("allowed_ms").value_or(0)));
}

int list_findings(const Context& context, const FindingQuery& query) {
  Table table({{.title = "ID", .right = true, .optional = 2},
               {.title = "FOUND"},
               {.title = "KIND"},
               {.title = "EXPECTATION", .shrinks_to = 12},
               {.title = "RUNS", .shrinks_to = 12},
               {.title = "RUN", .only_with_values = true},
               {.title = "WHAT", .shrinks_to = 16},
               {.title = "ENDED", .only_with_values = true},
               {.title = "BY", .optional = 1, .only_with_values = true}},
              terminal_of(1));
  const Timestamp now = now_utc();
  const auto cells = [&](const JsonObject& finding) -> std::vector<Cell> {
    const auto opened = finding.time("opened_at");
    const auto ended = finding.time("ended_at");
    const std::string expectation = finding.text("expectation");
    return {{finding.text("id")},
            {opened ? age_in_words(*opened, now) : ""},
            {finding.text("kind"), ended ? Colour::kDim : Colour::kRed},
            {expectation.empty() ? "(learned)" : expectation},
            {finding.text("council")},
            {finding.text("run_id")},
            {measure_of(finding, now)},
            {ended ? age_in_words(*ended, now) : ""},
            {finding.text("ended_by")}};
  };
  Target target("/v1/findings");
  if (query.ended) target.add("all", "true");
  if (query.expectation) target.add("expectation", *query.expectation);
  if (query.kind != kAnyKind) target.add("kind", query.kind);
  const Result<Listed> listed = print_pages(context, target, "findings", query.limit, table, cells);
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json && listed->items == 0)
    complain(query.ended ? "no findings" : "no open findings; --ended shows others too");
  if (!context.json && listed->more) complain("there are more; --limit and --all show them");
  return kExitDone;
}

Handler declare_expect(Flags) {
  return [](const Invocation& invocation) { return list_expectations(invocation.context()); };
}

Handler declare_findings(Flags flags) {
  const auto query = std::make_shared<FindingQuery>();
  flags.on("--ended", query->ended, "Also those that are ended");
  flags.text("--expectation", query->expectation, "Of this expectation", "NAME");
  flags.choice("--kind", query->kind, {kAnyKind, "missed", "overlong"}, "Of this kind");
  flags.limit(query->limit, "findings");
  return [query](const Invocation& invocation) { return list_findings(invocation.context(), *query); };
}

}  // namespace

extern const Command kExpectCommand = {"expect", "Show what is expected of runs, and whether it is so",
                                       declare_expect};
extern const Command kFindingsCommand = {
    "findings", "List runs that did not start in time or last too long, the newest first", declare_findings};

}  // namespace run_recorder
