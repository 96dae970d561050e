// Which rows a pass judges, page by page: the next page is read while this one is judged.
#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "base/async_call.h"
#include "reconcile/pass.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kPageRows = 4'000;
// Groups that one pass looks at. So many are few beside a page's rows times the pages of a table that is worth it.
constexpr std::size_t kGroups = 1'000;
constexpr std::size_t kRowsOfAGroup = 10;   // on average, where groups are worth it
constexpr std::size_t kEndedKept = 10'000;  // rows of one check; the next pass finds the others

// Whether rows like these are mostly in groups that many of them share: a page of them says so for all.
bool are_grouped(std::span<const RunningRow> rows, bool with_jobs) {
  std::set<std::tuple<std::string_view, std::string_view, std::string_view>> groups;
  std::size_t grouped = 0;
  for (const RunningRow& row : rows) {
    const Run& run = row.run;
    if (row.dead_letter || (!with_jobs && (run.oban_job_id || run.job_id))) continue;
    ++grouped;
    groups.emplace(run.worker_process, run.sender_process, run.connection);
  }
  return grouped * 2 > rows.size() && groups.size() * kRowsOfAGroup <= grouped;
}

bool is_judged(const Run& run) {
  return run.status == Status::kRunning || (run.status == Status::kQueued && (run.job_id || run.oban_job_id));
}

}  // namespace

Result<void> Pass::scan(bool mark) {
  deferred_.clear();
  too_many_deferred_ = false;
  deferred_for_listening_ = 0;
  if (!plan_.only_named) {
    EventWindow window = plan_.within.value_or(EventWindow{});
    const Timestamp ripe = report_.started_at - policy_.grace;
    window.before = plan_.within ? std::min(window.before, ripe) : ripe;
    if (future_is_old_) window.ahead_of = report_.started_at;
    if (const auto done = scan_window(window, mark); !done) return done;
  }
  return scan_named(mark);
}

Result<void> Pass::scan_window(const EventWindow& window, bool mark) {
  const bool has_queue = connections_.queue != nullptr;
  if (!plan_.within) {
    const auto running = connections_.store->count_running_since(window.before, window.ahead_of);
    if (!running) return running.error();
    report_.deferred += running.value();
    const auto queued = has_queue ? connections_.store->count_queued_since(window.before) : Result<std::uint64_t>(0);
    if (!queued) return queued.error();
    report_.deferred += queued.value();
  }
  if (const auto done = scan_running(window, mark); !done) return done;
  if (!has_queue) return {};
  return scan_pages(
      [&window](Store& store, std::string_view after) { return store.queued_rows(after, kPageRows, window); }, mark);
}

Result<void> Pass::scan_running(const EventWindow& window, bool mark) {
  const auto settled = settle_groups(window);
  if (!settled) return settled.error();
  if (!settled->groups.empty() && settled->others == 0) return {};
  return scan_pages(
      [&](Store& store, std::string_view after) { return store.running_rows(after, kPageRows, window, *settled); },
      mark);
}

// Rows that move meanwhile leave the window, so that none is counted twice. A heartbeat that the row does not have
// yet makes it no less alive.
Result<RunningGroups> Pass::settle_groups(const EventWindow& window) {
  const bool with_jobs = connections_.queue == nullptr;  // nobody could be asked about them
  const auto some = connections_.store->running_rows({}, kPageRows, window);
  if (!some) return some.error();
  if (some->size() < kPageRows || !are_grouped(*some, with_jobs)) return RunningGroups{};
  liveness_.beat();
  auto found = connections_.store->running_groups(window, with_jobs, kGroups);
  if (!found) return found.error();
  if (const auto renewed = renew_lease(); !renewed) return renewed.error();
  const Rules rules = rules_now(host_, policy_, plan_);
  std::erase_if(found->groups, [&](const RunningGroup& group) {
    if (judge(evidence_->gather(group), rules, AskedRules::kUntilDecided).kind != VerdictKind::kAlive) {
      found->others += group.rows;
      return true;
    }
    report_.count_alive(group.rows);
    return false;
  });
  return std::move(*found);
}

Result<void> Pass::scan_pages(const ReadRows& read, bool mark) {
  const auto read_behind = [&](const std::string& after) -> Result<Page> {
    auto rows = read(*connections_.reader, after);
    if (!rows) return rows.error();
    return gather(std::move(rows.value()));
  };
  auto page = read_behind({});
  while (true) {
    if (host_.stopping()) return stopping_error();
    host_.progress(report_);
    if (!page) return page.error();
    std::future<Result<Page>> next;
    if (page.value().rows.size() == kPageRows) {
      next = run_async([&read_behind, after = page.value().rows.back().run.run_id] { return read_behind(after); });
    }
    liveness_.beat();
    if (const auto renewed = renew_lease(); !renewed) return renewed.error();
    if (const auto judged = judge_page(page.value(), mark); !judged) return judged.error();
    if (!next.valid()) return {};
    page = next.get();
  }
}

Result<void> Pass::scan_named(bool mark) {
  for (std::span<const std::string> left = plan_.run_ids; !left.empty();) {
    const auto some = left.first(std::min(left.size(), kNamedRows));
    left = left.subspan(some.size());
    if (host_.stopping()) return stopping_error();
    liveness_.beat();
    if (const auto renewed = renew_lease(); !renewed) return renewed.error();
    auto rows = connections_.store->rows_named(some);
    if (!rows) return rows.error();
    std::erase_if(rows.value(), [](const RunningRow& row) { return !is_judged(row.run); });
    if (const auto judged = judge_page(gather(std::move(rows.value())), mark); !judged) return judged.error();
  }
  return {};
}

Pass::Page Pass::gather(std::vector<RunningRow> rows) {
  Page page;
  page.gathered_at = now();
  page.rows = std::move(rows);
  page.facts = evidence_->gather(page.rows);
  return page;
}

// By now everything that these processes had sent is applied, so that no row is found that would be raced.
Result<Pass::Ended> Pass::check_ended(std::span<const ProcessEnd> ends) {
  prepare_evidence();
  std::vector<std::string> processes;
  std::vector<std::string> connections;
  for (const ProcessEnd& end : ends) {
    if (!end.process.empty()) processes.push_back(end.process);
    if (!end.connection.empty()) connections.push_back(end.connection);
  }
  Ended ended;
  std::map<std::string, milliseconds> waits;  // by process and connection: until its rows can be judged
  std::string after;
  do {
    liveness_.beat();
    auto rows = connections_.store->running_rows_of(processes, connections, after, kPageRows);
    if (!rows) return rows.error();
    const Page page = gather(std::move(rows.value()));
    sort_out(page, ended, waits);
    after = page.rows.size() == kPageRows ? page.rows.back().run.run_id : std::string();
  } while (!after.empty() && ended.stuck.size() < kEndedKept);
  for (const ProcessEnd& end : ends) {
    auto found = waits.find(end.process);
    if (found == waits.end()) found = waits.find(end.connection);
    if (found == waits.end()) continue;
    ended.again.push_back(end);
    ended.again.back().due = now() + found->second;
  }
  return ended;
}

void Pass::sort_out(const Page& page, Ended& ended, std::map<std::string, milliseconds>& waits) const {
  const std::vector<Verdict> verdicts = judge_all(page);
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    const Run& run = page.rows[i].run;
    const RowFacts& facts = page.facts[i];
    if (verdicts[i].kind == VerdictKind::kStuck) ended.stuck.push_back(run.run_id);
    if (verdicts[i].kind != VerdictKind::kDeferred) continue;
    const milliseconds wait = policy_.grace - (facts.too_young ? facts.silence : milliseconds{0});
    for (const std::string* name : {&run.worker_process, &run.sender_process, &run.connection}) {
      if (!name->empty()) waits.emplace(*name, wait);
    }
  }
}

}  // namespace run_recorder
