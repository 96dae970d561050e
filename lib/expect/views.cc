#include "expect/views.h"

#include <algorithm>

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
  for (const Expected& one : expected.all()) {
    auto last = store.last_start(one.expectation.council);
    if (!last) return last.error();
    const auto same = std::ranges::find(*known, one.name, &KnownExpectation::name);
    std::optional<Timestamp> since;
    if (same != known->end() && same->definition == definition_of(one.expectation)) since = same->since;
    ExpectationView view = view_of(one, since, std::move(*last), seen.now);
    view.overlong = static_cast<std::uint64_t>(std::ranges::count_if(seen.open, [&one](const Finding& finding) {
      return finding.kind == FindingKind::kOverlong && finding.expectation == one.name;
    }));
    seen.views.push_back(std::move(view));
  }
  return seen;
}

}  // namespace run_recorder
