// `run-recorder stats`: how the newest runs of each council went, and how long they took.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "base/nearest_rank.h"
#include "cli/command.h"
#include "cli/context.h"
#include "cli/event_line.h"
#include "cli/interrupt.h"
#include "cli/run_query.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"
#include "run/usage.h"

namespace run_recorder {
namespace {

// Upper bounds of the histogram's columns; the last column takes what is longer.
constexpr std::array<std::int64_t, 11> kBoundsMs = {10,      100,     500,       1'000,      5'000,     30'000,
                                                    120'000, 600'000, 3'600'000, 21'600'000, 86'400'000};
constexpr std::array<std::string_view, 6> kStatuses = {"completed", "failed",  "cancelled",
                                                       "stuck",     "running", "queued"};

// With fewer finished runs nothing is usual.
constexpr std::size_t kFewestToCompare = 20;

struct CouncilStats {
  std::map<std::string, std::uint64_t, std::less<>> by_status;
  std::vector<std::int64_t> durations_ms;  // of finished runs
  std::int64_t running_ms = 0;             // of the one that is running for longest; 0: none is
  std::array<std::uint64_t, kBoundsMs.size() + 1> histogram{};
  std::uint64_t runs = 0;
  std::optional<JsonText> usage;  // summed by key
};

// The keys that have columns; --json has all.
constexpr std::array<std::string_view, 3> kUsageKeys = {"input_tokens", "output_tokens", "cost_usd"};

void count_run(CouncilStats& stats, const JsonObject& run, Timestamp now) {
  const std::string status = run.text("status");
  ++stats.runs;
  ++stats.by_status[status];
  if (const std::string_view usage = run.raw("usage"); !usage.empty()) add_usage(stats.usage, JsonText(usage));
  const auto duration = run_duration(run, now);
  if (!duration) return;
  if (status == "running") {
    stats.running_ms = std::max<std::int64_t>(stats.running_ms, duration->count());
    return;
  }
  stats.durations_ms.push_back(duration->count());
  const auto bound = std::lower_bound(kBoundsMs.begin(), kBoundsMs.end(), duration->count());
  ++stats.histogram[static_cast<std::size_t>(bound - kBoundsMs.begin())];
}

// Nearest rank. Precondition: sorted.
std::optional<std::int64_t> quantile(const std::vector<std::int64_t>& sorted, std::size_t percent) {
  if (sorted.empty()) return std::nullopt;
  return nearest_rank(sorted, percent);
}

std::string sparkline(const CouncilStats& stats) {
  static constexpr std::array<std::string_view, 9> kLevels = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const std::uint64_t highest = *std::max_element(stats.histogram.begin(), stats.histogram.end());
  std::string line;
  for (const std::uint64_t count : stats.histogram) {
    const std::uint64_t level = count == 0 ? 0 : std::max<std::uint64_t>(1, count * (kLevels.size() - 1) / highest);
    line += kLevels[level];
  }
  return line;
}

std::string stats_json(const std::string& council, const CouncilStats& stats) {
  EventLine line;
  line.text("council", council).number("runs", stats.runs);
  for (const std::string_view status : kStatuses) {
    const auto at = stats.by_status.find(status);
    line.number(status, at == stats.by_status.end() ? 0 : at->second);
  }
  const auto add = [&](const char* name, std::size_t percent) {
    if (const auto value = quantile(stats.durations_ms, percent)) {
      line.number(name, *value);
    } else {
      line.json(name, "null");
    }
  };
  add("p50_ms", 50);
  add("p95_ms", 95);
  add("max_ms", 100);
  stats.running_ms > 0 ? line.number("running_ms", stats.running_ms) : line.json("running_ms", "null");
  std::string columns;
  for (std::size_t i = 0; i < stats.histogram.size(); ++i) {
    EventLine column;
    column.json("up_to_ms", i < kBoundsMs.size() ? std::to_string(kBoundsMs[i]) : "null");
    column.number("runs", stats.histogram[i]);
    columns += (columns.empty() ? "" : ",") + column.str();
  }
  line.json("usage", stats.usage.value_or("null"));
  return line.json("durations", "[" + columns + "]").str() + "\n";
}

std::vector<Column> stats_columns(bool with_usage) {
  std::vector<Column> columns = {{.title = "NAME", .shrinks_to = 12},
                                 {.title = "RUNS", .right = true},
                                 {.title = "DONE", .right = true},
                                 {.title = "FAILED", .right = true},
                                 {.title = "CANCELLED", .right = true, .optional = 3},
                                 {.title = "STUCK", .right = true},
                                 {.title = "RUNNING", .right = true, .optional = 2},
                                 {.title = "QUEUED", .right = true, .optional = 4},
                                 {.title = "MEDIAN", .right = true},
                                 {.title = "95%", .right = true},
                                 {.title = "LONGEST", .right = true, .optional = 5},
                                 {.title = "NOW", .right = true, .optional = 1, .only_with_values = true}};
  if (with_usage) {
    for (const char* title : {"TOKENS IN", "TOKENS OUT", "COST USD"}) {
      columns.push_back({.title = title, .right = true, .optional = 1});
    }
  }
  columns.push_back({.title = "10ms…1d"});
  return columns;
}

// How long the one has been running that is for longest, beside what its like usually take.
Cell running_cell(const CouncilStats& stats) {
  if (stats.running_ms == 0) return {""};
  const bool is_known = stats.durations_ms.size() >= kFewestToCompare;
  const auto longer_than = [&](std::size_t percent) {
    return is_known && stats.running_ms > *quantile(stats.durations_ms, percent);
  };
  const Colour colour = longer_than(100) ? Colour::kRed : longer_than(95) ? Colour::kYellow : Colour::kNone;
  return {duration_in_words(std::chrono::milliseconds(stats.running_ms)), colour};
}

std::vector<Cell> stats_cells(const std::string& council, const CouncilStats& stats, bool with_usage) {
  std::vector<Cell> cells = {{council}, {with_separators(stats.runs)}};
  for (const std::string_view status : kStatuses) {
    const auto at = stats.by_status.find(status);
    const bool none = at == stats.by_status.end();
    cells.push_back({none ? "-" : with_separators(at->second), none ? Colour::kDim : colour_of_status(status)});
  }
  for (const std::size_t percent : {std::size_t{50}, std::size_t{95}, std::size_t{100}}) {
    const auto value = quantile(stats.durations_ms, percent);
    cells.push_back({value ? duration_in_words(std::chrono::milliseconds(*value)) : "-"});
  }
  cells.push_back(running_cell(stats));
  const JsonObject usage(stats.usage ? std::string_view(*stats.usage) : std::string_view());
  for (const std::string_view key : kUsageKeys) {
    if (with_usage) cells.push_back({number_in_words(usage.text(key))});
  }
  cells.push_back({stats.durations_ms.empty() ? "" : sparkline(stats)});
  return cells;
}

int show_stats(const Context& context, RunQuery& query) {
  if (const Result<void> complete = query.complete(context.client); !complete) return fail(complete.error());
  std::map<std::string, CouncilStats> councils;
  const Timestamp now = now_utc();
  const Interrupt interrupt;
  const auto take = [&](const std::vector<std::string_view>& items) {
    for (const std::string_view item : items) {
      const JsonObject run(item);
      count_run(councils[run.text("council")], run, now);
    }
  };
  const Result<Listed> listed =
      list_pages(context.client, query.target(), "runs", query.limit, take, {.shows_progress = true});
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);

  const bool with_usage =
      std::ranges::any_of(councils, [](const auto& council) { return council.second.usage.has_value(); });
  Table table(stats_columns(with_usage), terminal_of(1));
  std::string lines;
  for (auto& [council, stats] : councils) {
    std::sort(stats.durations_ms.begin(), stats.durations_ms.end());
    if (context.json) {
      lines += stats_json(council, stats);
    } else {
      table.add(stats_cells(council, stats, with_usage));
    }
  }
  if (context.json) {
    print_json(lines);
  } else if (!table.empty()) {
    print(table.render());
  }
  if (!listed->cut_at.empty()) {
    hint_more(*listed, "run");
    Interrupt::end_by_it();
    return kExitDone;
  }
  if (context.json) return kExitDone;
  if (councils.empty()) complain("no such runs");
  if (listed->more)
    complain(fmt::format("of the newest {}; --limit and --since choose others", count_of(listed->items, "run")));
  return kExitDone;
}

Handler declare_stats(Flags flags) {
  const auto query = std::make_shared<RunQuery>();
  query->declare(flags);
  query->limit = 1'000;
  flags.number("--limit", query->limit, "The newest N runs", {1, 1'000'000});
  return [query](const Invocation& invocation) { return show_stats(invocation.context(), *query); };
}

}  // namespace

extern const Command kStatsCommand = {"stats", "Show outcomes, durations and usage of the newest runs, by name",
                                      declare_stats};

}  // namespace run_recorder
