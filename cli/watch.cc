// `run-recorder watch`: a picture of the daemon and the newest runs that redraws itself; without a terminal the same
// as `list --follow`.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/follow.h"
#include "cli/run_view.h"
#include "cli/status.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::size_t kFallbackRows = 24;

std::size_t terminal_rows() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : kFallbackRows;
}

Result<std::string> picture(const Context& context, const RunQuery& query) {
  const Terminal terminal = terminal_of(STDOUT_FILENO);
  const Result<ControlAnswer> status = context.client.get("/v1/status");
  if (!status) return status.error();
  const std::string head = status_line(JsonObject(status->body), terminal);
  const std::size_t rows = terminal_rows();
  RunView view(usual_layout(), terminal, now_utc());
  Table table(view.columns(), terminal);
  const Result<Listed> listed =
      list_pages(context.client, query.target(), "runs",
                 std::min<std::uint64_t>(query.limit, rows > 5 ? rows - 4 : 1), [&](const auto& items) {
                   for (const std::string_view item : items) view.include(JsonObject(item));
                   for (const std::string_view item : items) table.add(view.cells(JsonObject(item)));
                 });
  // The daemon answers for itself while its database is away.
  if (!listed) return head + "\n\n" + fit(printable(listed.error().message), terminal.columns) + "\n";
  return head + "\n\n" + (table.empty() ? "no such runs\n" : table.render());
}

int watch(const Context& context, RunQuery& query, std::chrono::milliseconds interval) {
  if (const Result<void> complete = query.complete(context.client); !complete) return fail(complete.error());
  if (context.json || !terminal_of(STDOUT_FILENO).is_terminal) {
    return follow_runs(context, query, interval, usual_layout());
  }
  for (bool first = true;; first = false) {
    const Result<std::string> drawn = picture(context, query);
    if (!drawn && first) return fail(drawn.error());
    // From the top left, each line to its end, the rest of the screen cleared: without flicker.
    std::string screen = first ? "\033[2J\033[H" : "\033[H";
    for (const char c : drawn ? *drawn : printable(drawn.error().message) + "\n") {
      if (c == '\n') screen += "\033[K";
      screen += c;
    }
    print(screen + "\033[J");
    pause_while_read(interval);
  }
}

Handler declare_watch(Flags flags) {
  struct Values {
    RunQuery query;
    std::chrono::milliseconds interval{2'000};
  };
  const auto values = std::make_shared<Values>();
  values->query.declare(flags);
  flags.duration("--interval", values->interval, "The time between refreshes");
  return [values](const Invocation& invocation) {
    values->query.limit = kFollowedRuns;
    return watch(invocation.context(), values->query, values->interval);
  };
}

}  // namespace

extern const Command kWatchCommand = {"watch", "Show the newest runs, live", declare_watch};

}  // namespace run_recorder
