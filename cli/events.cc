// `run-recorder events`: a run's history, in the order it was applied.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/about_run.h"
#include "cli/command.h"
#include "cli/json_object.h"
#include "cli/local_time.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/timeline.h"
#include "cli/whole_id.h"

namespace run_recorder {
namespace {

// When a history entry happened, as far as is known.
std::optional<Timestamp> moment_of(const JsonObject& event) {
  if (const auto at = event.time("at")) return at;
  if (const auto received = event.time("received_at")) return received;
  return event.time("inserted_at");
}

Colour colour_of_effect(std::string_view effect) {
  if (effect == "conflict") return Colour::kRed;
  if (effect == "revived") return Colour::kMagenta;
  return effect == "recorded" ? Colour::kDim : Colour::kNone;
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
  Timeline span(terminal);
  const auto add = [&](const JsonObject& event) {
    const std::optional<Timestamp> moment = moment_of(event);
    if (!first) first = moment;
    std::string at;
    if (moment) {
      at =
          terminal.columns > 0 ? local_milliseconds(*moment) : local_time_with_offset(*moment, Digits::kMilliseconds);
    }
    if (is_narrow(terminal) && !at.empty()) at.erase(0, 11);  // AFTER says how many days later
    const std::string effect = event.text("effect");
    const auto after = [&] { return std::chrono::duration_cast<std::chrono::milliseconds>(*moment - *first); };
    table.add({{event.text("seq")},
               {at},
               {moment && first ? (*moment < *first ? "" : "+") + duration_in_words(after()) : ""},
               {event.text("type")},
               {effect, colour_of_effect(effect)},
               {moment ? span.draw(*moment, *moment) : "", colour_of_effect(effect)},
               {std::string(event.raw("payload")), Colour::kDim}});
  };
  const auto take = [&](const std::vector<std::string_view>& items) {
    if (context.json) return print_json_lines(items);
    for (const std::string_view item : items) span.include(moment_of(JsonObject(item)));
    for (const std::string_view item : items) add(JsonObject(item));
    if (!table.empty()) print(table.render());
  };
  const Result<Listed> listed = ask_by_id(context.client, Ids::kRuns, run_id, [&](const std::string& id) {
    return list_pages(context.client, Target(run_path(id, "/events")), "events", limit, take);
  });
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json) hint_more(*listed, "event");
  return kExitDone;
}

Handler declare_events(Flags flags) {
  struct Values {
    std::string run_id;
    std::uint64_t limit = 1'000;
  };
  const auto values = std::make_shared<Values>();
  flags.operand("RUN", values->run_id, "The run's id, or its beginning");
  flags.limit(values->limit, "entries");
  return [values](const Invocation& invocation) {
    return list_events(invocation.context(), values->run_id, values->limit);
  };
}

}  // namespace

extern const Command kEventsCommand = {"events", "Show a run's history, in the order it was applied", declare_events};

}  // namespace run_recorder
