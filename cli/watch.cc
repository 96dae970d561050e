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
#include "cli/screen.h"
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

Result<std::string> picture(const Context& context, const RunQuery& query, std::string_view hint) {
  const Terminal terminal = terminal_of(STDOUT_FILENO);
  const Result<ControlAnswer> status = context.client.get("/v1/status");
  if (!status) return status.error();
  const std::string head = status_line(JsonObject(status->body), terminal) + "\n" +
                           coloured(fit(hint, terminal.columns), Colour::kDim, terminal) + "\n";
  const std::size_t rows = terminal_rows();
  RunView view(usual_layout(), terminal, now_utc());
  Table table(view.columns(), terminal);
  const auto take = [&](const std::vector<std::string_view>& items) {
    for (const std::string_view item : items) view.include(JsonObject(item));
    for (const std::string_view item : items) table.add(view.cells(JsonObject(item)));
  };
  const Result<Listed> listed =
      list_pages(context.client, query.target(), "runs",
                 std::min<std::uint64_t>(query.limit, rows > 5 ? rows - 4 : 1), take, kFollowedPages);
  // The daemon answers for itself while its database is away.
  if (!listed) return head + fit(printable(listed.error().message), terminal.columns) + "\n";
  const std::string rest =
      listed->cut_at.empty()
          ? ""
          : fit("older ones than of " + listed->cut_at + " were not looked at", terminal.columns) + "\n";
  return head + (table.empty() && rest.empty() ? "no such runs\n" : table.render()) + rest;
}

// From the top left, each line to its end, the rest of the screen cleared: without flicker.
void draw(std::string_view lines) {
  std::string screen = "\033[H";
  for (const char c : lines) {
    if (c == '\n') screen += "\033[K";
    screen += c;
  }
  print(screen + "\033[J");
}

// False: it is to end. Another key than those that are known is no reason to ask the daemon again.
bool wait_for_next(std::chrono::milliseconds interval, bool& paused) {
  constexpr std::chrono::hours kLong{1};
  const auto next = std::chrono::steady_clock::now() + interval;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - std::chrono::steady_clock::now());
    if (!paused && left.count() <= 0) return true;
    const std::optional<char> key = Screen::wait_for_key(paused ? kLong : left);
    if (!key) return true;
    if (*key == 'q' || *key == 'Q') return false;
    if (*key == 'r') return true;
    if (*key == 'p' || *key == ' ') {
      paused = !paused;
      return true;
    }
  }
}

int watch(const Context& context, RunQuery& query, std::chrono::milliseconds interval) {
  if (const Result<void> complete = query.complete(context.client); !complete) return fail(complete.error());
  if (context.json || !terminal_of(STDOUT_FILENO).is_terminal) {
    return follow_runs(context, query, interval, usual_layout());
  }
  Screen screen;
  bool paused = false;
  for (bool first = true;; first = false) {
    const Result<std::string> drawn = picture(
        context, query, paused ? "paused: p goes on, r looks once, q quits" : "p pauses, r refreshes, q quits");
    if (!drawn && first) return fail(drawn.error());
    screen.enter();
    draw(drawn ? *drawn : printable(drawn.error().message) + "\n");
    if (!wait_for_next(interval, paused)) return kExitDone;
  }
}

Handler declare_watch(Flags flags) {
  struct Values {
    RunQuery query;
    std::chrono::milliseconds interval{2'000};
  };
  const auto values = std::make_shared<Values>();
  values->query.declare(flags);
  flags.interval(values->interval, "The time between refreshes");
  return [values](const Invocation& invocation) {
    values->query.limit = kFollowedRuns;
    return watch(invocation.context(), values->query, values->interval);
  };
}

}  // namespace

extern const Command kWatchCommand = {
    "watch", "Show the newest runs, live", declare_watch,
    "On a terminal q quits, p or the space bar pauses, r refreshes at once. Elsewhere it is list --follow."};

}  // namespace run_recorder
