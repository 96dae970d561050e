// `run-recorder export`: all that moves to another database, as lines of JSON (control/move.h has their form).
#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/json_object.h"
#include "cli/patience.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::uint64_t kPageLines = 200;

// Every page from the cursor on, which it moves.
Result<void> print_pages(const Context& context, std::string& cursor) {
  Progress progress;
  Patience patience;
  std::uint64_t lines = 0;
  std::uint64_t bytes = 0;
  while (true) {
    Target target("/v1/export");
    target.add("limit", std::to_string(kPageLines));
    if (!cursor.empty()) target.add("cursor", cursor);
    const Result<ControlAnswer> answer = context.client.get(target.str());
    if (!answer && patience.wait(answer.error())) continue;
    if (!answer) return answer.error();
    patience.note_answer();
    if (lines == 0) hint_pending(answer->pending);
    const JsonObject page(answer->body);
    const std::vector<std::string_view> items = page.elements("lines");
    print_json_lines(items);
    lines += items.size();
    bytes += answer->body.size();
    progress.show(fmt::format("{} exported, {}", count_of(lines, "line"), size_in_words(bytes)));
    cursor = page.text("next");
    if (cursor.empty()) return {};
  }
}

// From the beginning, or from where an export stopped: its error names the cursor.
int export_all(const Context& context, const std::string& from) {
  std::string cursor = from;
  const Result<void> done = print_pages(context, cursor);
  if (done) return kExitDone;
  const int status = fail(done.error());
  if (!cursor.empty())
    complain("what is written is whole; to go on behind it: run-recorder export --cursor " + cursor);
  return status;
}

Handler declare_export(Flags flags) {
  const auto cursor = std::make_shared<std::string>();
  flags.text("--cursor", *cursor, "Continue an export at the cursor that its error names", "CURSOR");
  return [cursor](const Invocation& invocation) { return export_all(invocation.context(), *cursor); };
}

}  // namespace

extern const Command kExportCommand = {
    "export", "Write all runs with their history to standard output, one JSON object a line", declare_export};

}  // namespace run_recorder
