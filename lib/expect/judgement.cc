#include "expect/judgement.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/nearest_rank.h"
#include "store/text_match.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLeastLearnedLimit{60'000};
constexpr int kTimesUsual = 4;

const Finding* open_missed(std::span<const Finding> open, std::string_view expectation) {
  const auto found = std::ranges::find_if(open, [&](const Finding& finding) {
    return finding.kind == FindingKind::kMissed && finding.expectation == expectation;
  });
  return found == open.end() ? nullptr : &*found;
}

// For people: UTC, to the second.
std::string moment_in_words(Timestamp time) {
  return fmt::format("{0:%Y-%m-%d %H:%M:%S} UTC", std::chrono::time_point_cast<std::chrono::seconds>(time));
}

NewFinding overlong(std::string expectation, const Run& run, milliseconds allowed) {
  return {FindingKind::kOverlong, std::move(expectation), run.council, run.run_id, {}, allowed};
}

}  // namespace

std::string_view state_of(const ExpectationView& view) {
  if (view.missed) return to_string(FindingKind::kMissed);
  if (view.overlong > 0) return to_string(FindingKind::kOverlong);
  return to_string(view.outlook.state == StartState::kMissed ? StartState::kLate : view.outlook.state);
}

std::string why(const ExpectationView& view) {
  const std::string last = view.last_start
                               ? fmt::format("the last one started at {} ({})",
                                             moment_in_words(view.last_start->started_at), view.last_start->run_id)
                               : fmt::format("none has started since {}", moment_in_words(view.since));
  if (view.disputed) return "another daemon expects something else under this name; give all of them the same";
  std::string said;
  switch (view.outlook.state) {
    case StartState::kNone:
      said = "no start is expected";
      break;
    case StartState::kWaiting:
      said = last;
      break;
    case StartState::kLate:
      said = fmt::format("a start was due at {} and may still come until {}; {}", moment_in_words(*view.outlook.due),
                         moment_in_words(*view.outlook.due + view.expectation.margin), last);
      break;
    case StartState::kMissed:
      said = fmt::format("no run started at {} or in the {} after it; {}", moment_in_words(*view.outlook.due),
                         format_duration(view.expectation.margin), last);
      break;
  }
  if (view.overlong == 0) return said;
  return fmt::format("{}; {} longer than {}", said,
                     view.overlong == 1 ? "a run lasts" : fmt::format("{} runs last", view.overlong),
                     format_duration(view.expectation.max_duration));
}

ExpectationView view_of(const Expected& expected, std::optional<Timestamp> since,
                        std::optional<StartedRun> last_start, Timestamp now) {
  ExpectationView view;
  view.name = expected.name;
  view.expectation = expected.expectation;
  view.since = since.value_or(now);
  std::optional<Timestamp> started;
  if (last_start) started = last_start->started_at;
  view.outlook = outlook(expected.schedule, view.since, started, now);
  view.last_start = std::move(last_start);
  return view;
}

FoundChanges judge_starts(const ExpectedRuns& expected, const ExpectationViews& seen) {
  FoundChanges changes;
  for (const ExpectationView& view : seen.views) {
    if (!view.adopted) continue;
    const Finding* open = open_missed(seen.open, view.name);
    const Expected* one = expected.find(view.name);
    const bool missed = view.outlook.state == StartState::kMissed;
    if (!open) {
      if (missed) {
        changes.opened.push_back(
            {FindingKind::kMissed, view.name, view.expectation.council, {}, view.outlook.due, {}});
      }
      continue;
    }
    const Timestamp due = open->due_at.value_or(open->opened_at);
    if (view.last_start && one && view.last_start->started_at >= one->schedule.counts_from(due)) {
      changes.ended.push_back({open->id, view.last_start->run_id});
    } else if (!missed) {
      changes.ended.push_back({open->id, std::string(kExpectedNoMore)});
    }
  }
  return changes;
}

std::vector<NewFinding> judge_running(const ExpectedRuns& expected, std::span<const RunningRow> running,
                                      Timestamp now, const LearnedLimit& learned) {
  std::vector<NewFinding> found;
  for (const RunningRow& row : running) {
    if (!row.run.started_at) continue;
    const auto lasts = now - *row.run.started_at;
    bool is_said = false;
    for (const Expected& one : expected.all()) {
      const milliseconds allowed = one.expectation.max_duration;
      if (allowed.count() == 0 || !fits_name(one.expectation.council, row.run.council)) continue;
      is_said = true;
      if (lasts > allowed) found.push_back(overlong(one.name, row.run, allowed));
    }
    if (is_said || !expected.learns()) continue;
    const auto allowed = learned(row.run.council);
    if (allowed && lasts > *allowed) found.push_back(overlong("", row.run, *allowed));
  }
  return found;
}

std::vector<FindingEnd> judge_overlong(std::span<const Finding> open, std::span<const NewFinding> found,
                                       const std::map<std::string, Status, std::less<>>& status_of) {
  std::set<std::pair<std::string_view, std::string_view>> still;
  for (const NewFinding& finding : found) still.emplace(finding.expectation, finding.run_id);
  std::vector<FindingEnd> ended;
  for (const Finding& finding : open) {
    if (finding.kind != FindingKind::kOverlong || still.contains({finding.expectation, finding.run_id})) continue;
    const auto status = status_of.find(finding.run_id);
    if (status == status_of.end()) {
      ended.push_back({finding.id, "removed"});
    } else if (status->second == Status::kRunning) {
      ended.push_back({finding.id, std::string(kExpectedNoMore)});
    } else {
      ended.push_back({finding.id, std::string(to_string(status->second))});
    }
  }
  return ended;
}

std::optional<Usual> usual_of(std::vector<milliseconds> durations) {
  if (durations.size() < kLeastLearnedRuns) return std::nullopt;
  std::ranges::sort(durations);
  return Usual{nearest_rank(durations, 50), nearest_rank(durations, 95), nearest_rank(durations, 99)};
}

milliseconds learned_limit(const Usual& usual) {
  return std::max(kLeastLearnedLimit, kTimesUsual * usual.p99);
}

}  // namespace run_recorder
