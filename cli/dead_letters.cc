// `run-recorder dead-letters list`, `show`, `retry` and `delete`. Each returns the exit status.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/context.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

std::string path_of(const std::string& id, std::string_view what = "") {
  return "/v1/dead-letters/" + percent_encoded(id) + std::string(what);
}

// Each by itself, so that one that is gone does not hold up the others; the worst exit status counts.
template <class Do>
int for_each_id(const std::vector<std::string>& ids, Do one) {
  int status = kExitDone;
  for (const std::string& id : ids) {
    const int each = one(id);
    if (each == kExitNotThere) return each;
    status = std::max(status, each);
  }
  return status;
}

int list_dead_letters(const Context& context, std::uint64_t limit) {
  Table table({{.title = "ID", .right = true},
               {.title = "RUN"},
               {.title = "TYPE", .shrinks_to = 14},
               {.title = "RECEIVED"},
               {.title = "SQLSTATE", .optional = 1},
               {.title = "TRIES", .right = true, .optional = 1},
               {.title = "REASON", .shrinks_to = 24}},
              terminal_of(1));
  const Timestamp now = now_utc();
  const auto cells = [&](const JsonObject& letter) -> std::vector<Cell> {
    const auto received = letter.time("received_at");
    return {{letter.text("id")},
            {letter.text("run_id")},
            {letter.text("type")},
            {received ? age_in_words(*received, now) : ""},
            {letter.text("sqlstate")},
            {letter.text("tries")},
            {letter.text("reason"), Colour::kRed}};
  };
  const Result<Listed> listed = print_pages(context, Target("/v1/dead-letters"), "dead_letters", limit, table, cells);
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  if (!context.json && listed->items == 0) complain("no dead letters");
  if (!context.json && listed->more) complain("there are more; --limit and --all show them");
  return kExitDone;
}

int show_dead_letter(const Context& context, const std::string& id) {
  const Result<ControlAnswer> answer = context.client.get(path_of(id));
  if (!answer) return fail(answer.error());
  if (context.json) {
    print_json_lines({answer->body});
    return kExitDone;
  }
  Facts facts(terminal_of(1));
  const JsonObject letter(answer->body);
  for (const JsonMember& member : letter.members()) {
    if (member.type != JsonType::kNull) facts.add(member.key, json_plain_text(member.value));
  }
  print(facts.render());
  return kExitDone;
}

int retry_dead_letters(const Context& context, const std::vector<std::string>& ids) {
  return for_each_id(ids, [&](const std::string& id) {
    const Result<ControlAnswer> answer = context.client.post(path_of(id, "/retry"), "{}");
    if (!answer) return fail(answer.error());
    const std::string outcome = JsonObject(answer->body).text("outcome");
    if (context.json) {
      print_json_lines({answer->body});
    } else if (outcome == "dead") {
      print(fmt::format("{}: refused again, it stays (run-recorder dead-letters show {})\n", id, id));
    } else {
      print(fmt::format("{}: {}\n", id, outcome == "duplicate" ? "was recorded already, removed" : outcome));
    }
    return outcome == "dead" ? kExitOther : kExitDone;
  });
}

int delete_dead_letters(const Context& context, const std::vector<std::string>& ids) {
  return for_each_id(ids, [&](const std::string& id) {
    const Result<ControlAnswer> answer = context.client.remove(path_of(id));
    if (!answer) return fail(answer.error());
    if (context.json) {
      print_json_lines({answer->body});
    } else {
      print(fmt::format("{}: removed\n", id));
    }
    return kExitDone;
  });
}

Handler declare_letters(Flags flags) {
  const auto limit = std::make_shared<std::uint64_t>(100);
  flags.limit(*limit, "dead letters");
  return [limit](const Invocation& invocation) { return list_dead_letters(invocation.context(), *limit); };
}

Handler declare_show(Flags flags) {
  const auto id = std::make_shared<std::vector<std::string>>();
  flags.operands("ID", *id, "The dead letter's id", 1);
  return [id](const Invocation& invocation) { return show_dead_letter(invocation.context(), id->front()); };
}

template <int (*change)(const Context&, const std::vector<std::string>&)>
Handler declare_change(Flags flags) {
  const auto ids = std::make_shared<std::vector<std::string>>();
  flags.operands("ID", *ids, "The dead letters' ids");
  return [ids](const Invocation& invocation) { return change(invocation.context(), *ids); };
}

constexpr Command kLetterCommands[] = {
    {"list", "List dead letters, the oldest first", declare_letters},
    {"show", "Show a dead letter, with the event as it was sent", declare_show},
    {"retry", "Apply dead letters again", declare_change<retry_dead_letters>},
    {"delete", "Delete dead letters; the ledger counts them as removed", declare_change<delete_dead_letters>}};

}  // namespace

extern const Command kDeadLettersCommand = {"dead-letters", "List, retry and delete events that the database refuses",
                                            nullptr, "", kLetterCommands};

}  // namespace run_recorder
