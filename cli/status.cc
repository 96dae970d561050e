#include "cli/status.h"

#include <fmt/format.h>

#include "cli/text.h"

namespace run_recorder {
namespace {

Colour colour_of(const JsonMember& member) {
  const bool counts_trouble = member.key == "dead_letters" || member.key == "damaged_records";
  if (counts_trouble && member.value != "0") return Colour::kRed;
  const std::string text = json_plain_text(member.value);
  if (text == "away" || text == "refused" || text == "failed") return Colour::kRed;
  return Colour::kNone;
}

// Nested objects as "outer inner" lines, so that all names and values stand under each other.
void add_members(Facts& facts, const JsonObject& object, const std::string& prefix, Timestamp now) {
  for (const JsonMember& member : object.members()) {
    const std::string name = prefix + member.key;
    if (member.type == JsonType::kNull) continue;
    if (member.type == JsonType::kObject) {
      add_members(facts, JsonObject(member.value), name + ".", now);
      continue;
    }
    std::string value = json_plain_text(member.value);
    if (member.type == JsonType::kString && value.empty()) continue;
    if (member.type == JsonType::kString) {
      if (const auto time = parse_rfc3339(value)) value = time_and_age(time, now);
    }
    facts.add(name, value, colour_of(member));
  }
}

}  // namespace

int show_status(const Looking& looking) {
  const Result<ControlAnswer> answer = looking.client.get("/v1/status");
  if (!answer) return fail(answer.error());
  if (looking.json) {
    print_json_lines({answer->body});
    return kExitDone;
  }
  Facts facts(terminal_of(1));
  add_members(facts, JsonObject(answer->body), "", now_utc());
  print(facts.render());
  return kExitDone;
}

std::string status_line(const JsonObject& status, const Terminal& terminal) {
  const auto count = [&](const char* key) {
    return with_separators(static_cast<std::uint64_t>(status.integer(key).value_or(0)));
  };
  const std::string line =
      fmt::format("accepted {}, applied {}, duplicate {}, waiting {}, dead letters {}", count("accepted"),
                  count("applied"), count("duplicate"), count("waiting"), count("dead_letters"));
  return coloured(fit(line, terminal.columns), Colour::kBold, terminal);
}

}  // namespace run_recorder
