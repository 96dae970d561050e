// `run-recorder show`: everything about one run.
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

void add_json_section(std::string& out, std::string_view title, std::string_view value, const Terminal& terminal) {
  if (value.empty()) return;
  out += "\n" + coloured(title, Colour::kDim, terminal) + "\n  " + pretty_json(value, 2) + "\n";
}

// The last lines a command wrote, when the error holds them, read better as lines.
std::string last_words(const JsonObject& run, const Terminal& terminal) {
  std::string out;
  for (const std::string_view element : run.object("error").elements("errors")) {
    for (const std::string_view line : JsonObject(element).elements("stderr_tail")) {
      out += "  " + printable(json_plain_text(line)) + "\n";
    }
  }
  return out.empty() ? out : "\n" + coloured("last words on standard error", Colour::kDim, terminal) + "\n" + out;
}

// A line for each key, the numbers under each other.
std::string usage_lines(const JsonObject& run, const Terminal& terminal) {
  const JsonObject usage = run.object("usage");
  Table table({{.title = "usage", .shrinks_to = 12}, {.title = "", .right = true}}, terminal);
  for (const JsonMember& member : usage.members()) {
    table.add({{"  " + member.key}, {number_in_words(member.value)}});
  }
  return table.empty() ? std::string() : "\n" + table.render();
}

Facts facts_of(const JsonObject& run, const Terminal& terminal) {
  const Timestamp now = now_utc();
  const std::string status = run.text("status");
  Facts facts(terminal);
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) facts.add(name, value);
  };
  facts.add("run", run.text("run_id"), Colour::kBold);
  facts.add("name", run.text("council"));
  facts.add("status", status, colour_of_status(status));
  if (const std::string words = error_in_words(run); !words.empty())
    facts.add("because", words, colour_of_status(status));
  add("message", run.object("error").text("message"));
  add("attempt", run.text("attempt"));
  add("attempt before", run.text("parent_attempt_run_id"));
  add("queue", run.text("queue"));
  add("job", job_of(run));
  add("job's state then", run.text("oban_job_state_at_finalize"));
  add("host", run.text("host"));
  add("unit", run.text("unit"));
  add("user", run.text("os_user"));
  add("folder", run.text("cwd"));
  add("command", run.text("command"));
  facts.add("started", time_and_age(run.time("started_at"), now));
  if (run.time("finalized_at")) facts.add("finalized", time_and_age(run.time("finalized_at"), now));
  if (const auto duration = run_duration(run, now)) {
    facts.add(status == "running" ? "for" : "took", duration_in_words(*duration));
  }
  facts.add("recorded", time_and_age(run.time("inserted_at"), now));
  facts.add("last event", time_and_age(run.time("last_event_at"), now));
  if (const auto seconds = run.integer("expires_in")) {
    facts.add("expires", duration_in_words(std::chrono::seconds(*seconds)) + " after its last event");
  }
  add("progress", progress_in_words(run));
  add("entries", run.text("last_seq"));
  add("recorder", run.text("recorder"));
  add("worker", run.text("worker_process"));
  add("sender", run.text("sender_process"));
  add("marked by pass", run.text("stuck_pass"));
  return facts;
}

std::string run_in_words(const JsonObject& run, const Terminal& terminal) {
  std::string out = facts_of(run, terminal).render();
  out += usage_lines(run, terminal);
  out += last_words(run, terminal);
  add_json_section(out, "input", run.raw("input"), terminal);
  add_json_section(out, "result", run.raw("result"), terminal);
  add_json_section(out, "error", run.raw("error"), terminal);
  return out;
}

int show_run(const Context& context, const std::string& run_id) {
  return print_answer(context, run_id, "", run_in_words);
}

}  // namespace

extern const Command kShowCommand = {"show", "Show everything about one run", declare_about_run<show_run>};

}  // namespace run_recorder
