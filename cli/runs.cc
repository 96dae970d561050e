#include "cli/runs.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::size_t kBarColumns = 24, kShortBarColumns = 12;
constexpr std::size_t kWideTerminal = 110;
constexpr std::size_t kLongestNote = 1'000;    // of each row of a chain
constexpr std::uint64_t kWholeChain = 10'000;  // the daemon gives a thousand

bool is_narrow(const Terminal& terminal) {
  return terminal.columns > 0 && terminal.columns < kWideTerminal;
}

std::string path_of(const std::string& run_id, std::string_view what = "") {
  return "/v1/runs/" + percent_encoded(run_id) + std::string(what);
}

void say_more(const Listed& listed, std::string_view noun) {
  if (listed.more) {
    complain(fmt::format("there are more than these {}; --limit and --all show them", count_of(listed.items, noun)));
  }
}

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
  facts.add("council", run.text("council"));
  facts.add("status", status, colour_of_status(status));
  if (const std::string words = error_in_words(run); !words.empty())
    facts.add("because", words, colour_of_status(status));
  add("message", run.object("error").text("message"));
  add("attempt", run.text("attempt"));
  add("attempt before", run.text("parent_attempt_run_id"));
  add("queue", run.text("queue"));
  add("job", job_of(run));
  add("job's state then", run.text("oban_job_state_at_finalize"));
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

// When a history entry happened, as far as is known.
std::optional<Timestamp> moment_of(const JsonObject& event) {
  if (const auto at = event.time("at")) return at;
  if (const auto received = event.time("received_at")) return received;
  return event.time("inserted_at");
}

// The stretch of time that a timeline shows.
class Span {
 public:
  explicit Span(const Terminal& terminal) : columns_(is_narrow(terminal) ? kShortBarColumns : kBarColumns) {}
  void include(const std::optional<Timestamp>& time) {
    if (!time) return;
    first_ = first_ ? std::min(*first_, *time) : *time;
    last_ = last_ ? std::max(*last_, *time) : *time;
  }
  std::string draw(Timestamp from, Timestamp to) const {
    if (!first_ || *first_ == *last_) return {};
    const auto part = [&](Timestamp time) {
      return static_cast<double>((time - *first_).count()) / static_cast<double>((*last_ - *first_).count());
    };
    return bar(part(from), part(to), columns_);
  }

 private:
  const std::size_t columns_;
  std::optional<Timestamp> first_, last_;
};

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

Colour colour_of_effect(std::string_view effect) {
  if (effect == "conflict") return Colour::kRed;
  if (effect == "revived") return Colour::kMagenta;
  return effect == "recorded" ? Colour::kDim : Colour::kNone;
}

}  // namespace

int list_runs(const Context& context, const RunQuery& query, RunWidth width) {
  const Terminal terminal = terminal_of(1);
  Table table(run_columns(width), terminal);
  const Timestamp now = now_utc();
  const Result<Listed> listed =
      list_pages(context.client, query.target(), "runs", query.limit, [&](const auto& items) {
        if (context.json) {
          print_json_lines(items);
          return;
        }
        for (const std::string_view item : items) table.add(run_cells(JsonObject(item), now, width));
        if (!table.empty()) print(table.render());
      });
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json) {
    if (listed->items == 0) complain("no such runs");
    say_more(*listed, "run");
  }
  return kExitDone;
}

int show_run(const Context& context, const std::string& run_id) {
  const Result<ControlAnswer> answer = context.client.get(path_of(run_id));
  if (!answer) return fail(answer.error());
  hint_pending(answer->pending);
  if (context.json) {
    print_json_lines({answer->body});
    return kExitDone;
  }
  const Terminal terminal = terminal_of(1);
  const JsonObject run(answer->body);
  std::string out = facts_of(run, terminal).render();
  out += usage_lines(run, terminal);
  out += last_words(run, terminal);
  add_json_section(out, "input", run.raw("input"), terminal);
  add_json_section(out, "result", run.raw("result"), terminal);
  add_json_section(out, "error", run.raw("error"), terminal);
  print(out);
  return kExitDone;
}

int list_events(const Context& context, const std::string& run_id, std::uint64_t limit) {
  const Terminal terminal = terminal_of(1);
  Table table({{.title = "SEQ", .right = true},
               {.title = "AT"},
               {.title = "AFTER", .right = true},
               {.title = "TYPE", .shrinks_to = 16},
               {.title = "EFFECT"},
               {.title = "TIMELINE", .optional = 1},
               {.title = "PAYLOAD", .shrinks_to = 16, .optional = 2}},
              terminal);
  std::optional<Timestamp> first;
  Span span(terminal);
  const auto add = [&](const JsonObject& event) {
    const std::optional<Timestamp> moment = moment_of(event);
    if (!first) first = moment;
    std::string at = moment ? format_rfc3339(*moment).substr(0, 23) + "Z" : "";
    if (!at.empty()) at[10] = ' ';
    if (is_narrow(terminal) && !at.empty()) at.erase(0, 11);  // AFTER says how many days later
    const std::string effect = event.text("effect");
    const auto after = [&] { return std::chrono::duration_cast<std::chrono::milliseconds>(*moment - *first); };
    table.add({{event.text("seq")},
               {at},
               {moment && first ? "+" + duration_in_words(after()) : ""},
               {event.text("type")},
               {effect, colour_of_effect(effect)},
               {moment ? span.draw(*moment, *moment) : "", colour_of_effect(effect)},
               {std::string(event.raw("payload")), Colour::kDim}});
  };
  const Result<Listed> listed =
      list_pages(context.client, Target(path_of(run_id, "/events")), "events", limit, [&](const auto& items) {
        if (context.json) {
          print_json_lines(items);
          return;
        }
        for (const std::string_view item : items) span.include(moment_of(JsonObject(item)));
        for (const std::string_view item : items) add(JsonObject(item));
        if (!table.empty()) print(table.render());
      });
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json) say_more(*listed, "event");
  return kExitDone;
}

int show_chain(const Context& context, const std::string& run_id) {
  const Timestamp now = now_utc();
  const Terminal terminal = terminal_of(1);
  std::vector<Attempt> attempts;
  const Result<Listed> listed =
      list_pages(context.client, Target(path_of(run_id, "/chain")), "runs", kWholeChain, [&](const auto& items) {
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
  Span span(terminal);
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

int explain_run(const Context& context, const std::string& run_id) {
  const Result<ControlAnswer> answer = context.client.get(path_of(run_id, "/explain"));
  if (!answer) return fail(answer.error());
  hint_pending(answer->pending);
  if (context.json) {
    print_json_lines({answer->body});
    return kExitDone;
  }
  const Terminal terminal = terminal_of(1);
  const JsonObject object(answer->body);
  const std::string verdict = object.text("verdict");
  const std::string status = object.text("status");
  Facts facts(terminal);
  facts.add("run", object.text("run_id"), Colour::kBold);
  facts.add("council", object.text("council"));
  facts.add("status", status, colour_of_status(status));
  facts.add("attempt", object.text("attempt"));
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
  print(facts.render() + (table.empty() ? "" : "\n" + table.render()));
  return kExitDone;
}

}  // namespace run_recorder
