// `run-recorder explain`: what each rule of reconciliation says of a run now.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/about_run.h"
#include "cli/command.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

std::string explanation_in_words(const JsonObject& object, const Terminal& terminal) {
  const std::string verdict = object.text("verdict");
  const std::string status = object.text("status");
  Facts facts(terminal);
  facts.add("run", object.text("run_id"), Colour::kBold);
  facts.add("name", object.text("council"));
  facts.add("status", status, colour_of_status(status));
  facts.add("attempt", object.text("attempt"));
  if (const std::string host = object.text("host"); !host.empty()) facts.add("host", host);
  if (const std::string job = object.text("oban_job_id"); !job.empty()) facts.add("job", job);
  if (const auto age = object.integer("age_seconds")) {
    facts.add("last event", duration_in_words(std::chrono::seconds(*age)) + " ago");
  }
  if (!verdict.empty()) {
    const std::string reason = object.text("reason");
    facts.add("verdict", reason.empty() ? verdict : verdict + ", " + reason, colour_of_verdict(verdict));
  }
  if (const std::string message = object.text("message"); !message.empty()) facts.add("because", message);
  Table table({{.title = "RULE", .right = true},
               {.title = "ASKS"},
               {.title = "SAYS"},
               {.title = "REASON"},
               {.title = "EVIDENCE", .shrinks_to = 24}},
              terminal);
  for (const std::string_view item : object.elements("rules")) {
    const JsonObject rule(item);
    const std::string says = rule.text("verdict");
    table.add({{rule.text("rule")},
               {rule.text("name")},
               {says.empty() ? "-" : says, says.empty() ? Colour::kDim : colour_of_verdict(says)},
               {rule.text("reason")},
               {rule.text("detail")}});
  }
  return facts.render() + (table.empty() ? "" : "\n" + table.render());
}

int explain_run(const Context& context, const std::string& run_id) {
  return print_answer(context, run_id, "/explain", explanation_in_words);
}

}  // namespace

extern const Command kExplainCommand = {"explain", "Show what each rule of reconciliation says of a run now",
                                        declare_about_run<explain_run>};

}  // namespace run_recorder
