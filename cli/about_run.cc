#include "cli/about_run.h"

#include "cli/text.h"
#include "cli/whole_id.h"

namespace run_recorder {

std::string run_path(const std::string& run_id, std::string_view what) {
  return "/v1/runs/" + percent_encoded(run_id) + std::string(what);
}

int print_answer(const Context& context, const std::string& run_id, std::string_view what,
                 std::string (*in_words)(const JsonObject& answer, const Terminal& terminal)) {
  const Result<ControlAnswer> answer = ask_by_id(context.client, Ids::kRuns, run_id, [&](const std::string& id) {
    return context.client.get(run_path(id, what));
  });
  if (!answer) return fail(answer.error());
  hint_pending(answer->pending);
  if (context.json) {
    print_json_lines({answer->body});
  } else {
    print(in_words(JsonObject(answer->body), terminal_of(1)));
  }
  return kExitDone;
}

}  // namespace run_recorder
