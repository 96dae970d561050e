// `run-recorder export`: all that moves to another database, as lines of JSON (control/move.h has their form).
#include <fmt/format.h>

#include <algorithm>
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

bool is_run(std::string_view line) {
  return line.starts_with("{\"run\":");
}

// Every page from the cursor on, which it moves.
Result<void> print_pages(const Context& context, std::string& cursor) {
  Progress progress;
  Patience patience;
  std::uint64_t lines = 0;
  std::uint64_t bytes = 0;
  std::uint64_t runs = 0;
  std::uint64_t runs_about = 0;
  while (true) {
    Target target("/v1/export");
    target.add("limit", std::to_string(kPageLines));
    if (!cursor.empty()) target.add("cursor", cursor);
    const Result<ControlAnswer> answer = context.client.get(target.str());
    if (!answer && patience.wait(answer.error())) continue;
    if (!answer) return answer.error();
    patience.note_answer();
    const JsonObject page(answer->body);
    const std::vector<std::string_view> items = page.elements("lines");
    if (lines == 0) {
      hint_pending(answer->pending);
      if (!items.empty()) runs_about = JsonObject(items.front()).object("export").count("runs_about");
    }
    runs += static_cast<std::uint64_t>(std::ranges::count_if(items, is_run));
    print_json_lines(items);
    lines += items.size();
    bytes += answer->body.size();
    const double part = runs_about == 0 ? 0 : static_cast<double>(runs) / static_cast<double>(runs_about);
    progress.show(fmt::format("{} exported, {}{}", count_of(runs, "run"), size_in_words(bytes),
                              pace_in_words(runs, part, progress.taken())));
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
  // A cursor that was refused is none to go on from.
  if (!cursor.empty() && done.error().kind != ErrorKind::kInvalid)
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
