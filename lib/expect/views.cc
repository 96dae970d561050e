#include "expect/views.h"

#include <algorithm>
#include <set>

#include "store/text_match.h"

namespace run_recorder {
namespace {

constexpr std::size_t kFindingsPage = 1'000;

Result<std::vector<Finding>> open_findings_of(Store& store) {
  std::vector<Finding> open;
  std::string cursor;
  do {
    auto page = store.list_findings({}, kFindingsPage, cursor);
    if (!page) return page.error();
    std::ranges::move(page->findings, std::back_inserter(open));
    cursor = page->next;
  } while (!cursor.empty() && open.size() < kOpenFindings);
  return open;
}

// The councils that any of them means, each once.
Result<std::vector<std::string>> councils_of(Store& store, const ExpectedRuns& expected) {
  std::set<std::string> councils;
  std::vector<std::string_view> patterns;
  for (const Expected& one : expected.all()) {
    const std::string& council = one.expectation.council;
    if (is_pattern(council)) {
      patterns.push_back(council);
    } else {
      councils.insert(council);
    }
  }
  if (!patterns.empty()) {
    auto names = store.council_names(kSearchedCouncils);
    if (!names) return names.error();
    for (std::string& name : *names) {
      const auto fits = [&name](std::string_view pattern) { return fits_pattern(pattern, name); };
      if (std::ranges::any_of(patterns, fits)) councils.insert(std::move(name));
    }
  }
  return std::vector<std::string>(councils.begin(), councils.end());
}

std::optional<StartedRun> last_of(const std::vector<StartedRun>& starts, std::string_view council) {
  const StartedRun* last = nullptr;
  for (const StartedRun& start : starts) {
    if (fits_name(council, start.council) && (!last || start.started_at > last->started_at)) last = &start;
  }
  return last ? std::optional(*last) : std::nullopt;
}

}  // namespace

// The clock first: what started since then is seen, and is in time.
Result<ExpectationViews> read_views(Store& store, const ExpectedRuns& expected) {
  ExpectationViews seen;
  const auto now = store.database_now();
  if (!now) return now.error();
  seen.now = *now;
  const auto known = store.known_expectations();
  if (!known) return known.error();
  auto open = open_findings_of(store);
  if (!open) return open.error();
  seen.open = std::move(*open);
  const auto councils = councils_of(store, expected);
  if (!councils) return councils.error();
  const auto starts = store.last_starts(*councils);
  if (!starts) return starts.error();
  for (const Expected& one : expected.all()) {
    const auto same = std::ranges::find(*known, one.name, &KnownExpectation::name);
    const bool is_known = same != known->end();
    const bool is_ours = is_known && same->definition == definition_of(one.expectation);
    std::optional<Timestamp> since;
    if (is_ours) since = same->since;
    ExpectationView view = view_of(one, since, last_of(*starts, one.expectation.council), seen.now);
    view.adopted = is_ours;
    view.disputed = is_known && !is_ours;
    for (const Finding& finding : seen.open) {
      if (finding.expectation != one.name) continue;
      view.missed = view.missed || finding.kind == FindingKind::kMissed;
      view.overlong += finding.kind == FindingKind::kOverlong ? 1U : 0U;
    }
    seen.views.push_back(std::move(view));
  }
  return seen;
}

}  // namespace run_recorder
