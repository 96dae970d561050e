// What a pass does with one page of rows: judges it, marks what is orphaned, counts.
#include <algorithm>
#include <cassert>
#include <utility>

#include "base/async_call.h"
#include "base/url.h"
#include "reconcile/pass.h"
#include "run/finding.h"

namespace run_recorder {
namespace {

constexpr std::size_t kMarksToShare = 500;
constexpr std::size_t kDeferredKept = 10'000;

StuckMark mark_of(const RunningRow& row, const RowFacts& facts, const Verdict& verdict, std::string_view pass_id) {
  StuckMark mark;
  mark.run_id = row.run.run_id;
  mark.expected_last_seq = row.run.last_seq;
  mark.expected_last_event = row.last_event;
  mark.expected_status = row.run.status;
  const JsonText evidence = evidence_json(facts, row);
  mark.error = stuck_error({verdict.reason, verdict.message, pass_id, evidence});
  // Another execution's state says nothing of how this one ended.
  const auto& job = facts.job;
  if (job && !job->state.empty() && job->kind != JobAnswer::Kind::kOtherExecution) mark.job_state = job->state;
  return mark;
}

}  // namespace

std::vector<Verdict> Pass::judge_all(const Page& page) const {
  const Rules rules = rules_now(host_, policy_, plan_);
  std::vector<Verdict> verdicts;
  verdicts.reserve(page.facts.size());
  for (const RowFacts& facts : page.facts) verdicts.push_back(judge(facts, rules, AskedRules::kUntilDecided));
  return verdicts;
}

Result<void> Pass::judge_page(const Page& page, bool mark) {
  const auto is_stuck = [](const Verdict& verdict) { return verdict.kind == VerdictKind::kStuck; };
  std::vector<Verdict> verdicts = judge_all(page);
  if (std::any_of(verdicts.begin(), verdicts.end(), is_stuck)) {
    const auto all_read = pass_read_barrier();
    if (!all_read) return all_read.error();
    // Meanwhile events may have been refused: then they may have to come again first. It makes nothing stuck.
    const Rules rules = rules_now(host_, policy_, plan_);
    for (std::size_t i = 0; i < verdicts.size(); ++i) {
      Verdict& verdict = verdicts[i];
      if (is_stuck(verdict)) verdict = judge(page.facts[i], rules, AskedRules::kUntilDecided);
      if (all_read.value() || !is_stuck(verdict)) continue;
      verdict.kind = VerdictKind::kDeferred;
      verdict.reason = {};
      verdict.message += "; not all sent events could be read in time";
    }
  }
  if (mark) return mark_page(page, verdicts);
  const auto same = unmoved(page, verdicts);
  if (!same) return same.error();
  count_page(page, verdicts, same.value(), false);
  return {};
}

// Of those that would be marked, where nothing is: whether marking would find them as they were read.
Result<std::set<std::string>> Pass::unmoved(const Page& page, std::span<const Verdict> verdicts) {
  std::map<std::string_view, const RunningRow*> asked;
  std::vector<std::string> ids;
  std::set<std::string> same;
  const auto ask = [&]() -> Result<void> {
    const auto rows = connections_.store->rows_named(ids);
    if (!rows) return rows.error();
    for (const RunningRow& now : rows.value()) {
      const RunningRow& then = *asked.at(now.run.run_id);
      if (now.run.status == then.run.status && now.run.last_seq == then.run.last_seq &&
          now.last_event == then.last_event && !has_beaten_since(now, page.gathered_at)) {
        same.insert(now.run.run_id);
      }
    }
    ids.clear();
    return {};
  };
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    if (verdicts[i].kind != VerdictKind::kStuck) continue;
    const RunningRow& row = page.rows[i];
    asked.emplace(row.run.run_id, &row);
    ids.push_back(row.run.run_id);
    if (ids.size() < kNamedRows) continue;
    if (const auto done = ask(); !done) return done.error();
  }
  if (!ids.empty()) {
    if (const auto done = ask(); !done) return done.error();
  }
  return same;
}

Result<void> Pass::mark_page(const Page& page, std::span<const Verdict> verdicts) {
  std::vector<StuckMark> marks;
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    const RunningRow& row = page.rows[i];
    if (verdicts[i].kind != VerdictKind::kStuck || has_beaten_since(row, page.gathered_at)) continue;
    marks.push_back(mark_of(row, page.facts[i], verdicts[i], report_.pass_id));
  }
  std::set<std::string> marked;
  const Result<void> done = marks.empty() ? Result<void>() : mark(marks, marked);
  report_.marked += marked.size();
  for (const RunningRow& row : page.rows) {
    if (marked.contains(row.run.run_id)) host_.recorder.councils().marked_stuck(row.run.council);
  }
  if (done) {
    count_page(page, verdicts, marked, true);
    return {};
  }
  // The pass has failed: of the others nobody knows.
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    if (marked.contains(page.rows[i].run.run_id)) log_row(page.rows[i], verdicts[i]);
  }
  return done;
}

// found: of those that are to be marked, the ones that were as they had been read.
void Pass::count_page(const Page& page, std::span<const Verdict> verdicts, const std::set<std::string>& found,
                      bool mark) {
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    const RunningRow& row = page.rows[i];
    const Verdict& verdict = verdicts[i];
    if (verdict.kind == VerdictKind::kDeferred) defer(row, page.facts[i]);
    if (verdict.kind == VerdictKind::kStuck && !found.contains(row.run.run_id)) {
      report_.count(row, VerdictKind::kRaced, "raced");
      continue;
    }
    report_.count(row, verdict.kind, verdict.reason);
    if (verdict.kind == VerdictKind::kStuck && mark) log_row(row, verdict);
  }
}

void Pass::defer(const RunningRow& row, const RowFacts& facts) {
  if (!facts.too_young && rules_now(host_, policy_, plan_).listening_for < policy_.grace) ++deferred_for_listening_;
  if (deferred_.size() < kDeferredKept) {
    deferred_.push_back(row.run.run_id);
  } else {
    too_many_deferred_ = true;
  }
}

// A heartbeat that did not write the row.
bool Pass::has_beaten_since(const RunningRow& row, Steady when) const {
  return host_.recorder.beat_since(row.run.run_id, when);
}

// Many at once are shared between two connections, because one backend of PostgreSQL uses one processor. `marked`
// gets what was marked, also where a part of it failed.
Result<void> Pass::mark(std::span<const StuckMark> marks, std::set<std::string>& marked) {
  assert(leased_ && !plan_.request.dry_run);
  // What was judged as this recorder's own may be another's by now.
  if (host_.recorder.self().id != recorder_) {
    return Error{ErrorKind::kConflict, "this daemon took a new recorder id, the pass is stopped"};
  }
  const auto mark_on = [&](Store& store, std::span<const StuckMark> some) {
    return store.mark_stuck(host_.recorder.self(), report_.pass_id, some);
  };
  const auto note = [&](const Result<std::vector<std::string>>& done) -> Result<void> {
    if (!done) return done.error();
    marked.insert(done.value().begin(), done.value().end());
    return {};
  };
  const StoreOptions& store_options = host_.options.store;
  const bool many = marks.size() >= kMarksToShare && database_kind(store_options.url) == DatabaseKind::kPostgres;
  if (many && !connections_.second) {
    if (auto opened = open_store(store_options); opened) connections_.second = std::move(opened.value());
  }
  if (!many || !connections_.second) return note(mark_on(*connections_.store, marks));
  const std::size_t half = marks.size() / 2;
  auto others = run_async([&] { return mark_on(*connections_.second, marks.subspan(half)); });
  const Result<void> first = note(mark_on(*connections_.store, marks.first(half)));
  const Result<void> second = note(others.get());
  return first ? second : first;
}

}  // namespace run_recorder
