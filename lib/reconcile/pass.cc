#include "reconcile/pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/aside.h"
#include "base/url.h"
#include "run/finding.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPageRows = 4'000;
constexpr std::size_t kNamedRows = 1'000;  // that one statement asks for
constexpr std::size_t kMarksToShare = 500;
constexpr std::size_t kDeferredKept = 10'000;
constexpr std::size_t kEndedKept = 10'000;  // rows of one look; the next pass finds the others
constexpr milliseconds kLease{60'000};
constexpr milliseconds kLeaseRenewed{10'000};
constexpr milliseconds kRequestPatience{10'000};
constexpr milliseconds kHearing{10'000};  // longer than a peer may stall the event socket
constexpr milliseconds kTurn{100};

Error stopping_error() {
  return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
}

milliseconds since(steady_clock::time_point then) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - then);
}

bool is_judged(const Run& run) {
  return run.status == Status::kRunning || (run.status == Status::kQueued && (run.job_id || run.oban_job_id));
}

StuckMark mark_of(const RunningRow& row, const RowFacts& facts, const Verdict& verdict, std::string_view pass_id) {
  StuckMark mark;
  mark.run_id = row.run.run_id;
  mark.expected_last_seq = row.run.last_seq;
  mark.expected_last_event = row.last_event;
  mark.expected_status = row.run.status;
  const JsonText evidence = evidence_json(facts, row);
  mark.error = error_of({verdict.reason, verdict.message, pass_id, evidence});
  // Another execution's state says nothing of how this one ended.
  const auto& job = facts.job;
  if (job && !job->state.empty() && job->kind != JobAnswer::Kind::kOtherExecution) mark.job_state = job->state;
  return mark;
}

}  // namespace

EvidenceOptions evidence_options(const PassHost& host, const ReconcilePolicy& policy, Store& store) {
  EvidenceOptions options;
  const RecorderSelf self = host.recorder.self();
  options.recorder = self.id;
  options.incarnation = self.incarnation;
  options.grace = policy.grace;
  options.recorder_timeout = policy.recorder_timeout;
  options.connection_open = host.options.connection_open;
  options.on_living_worker = host.options.watch;
  options.beat_since = [&recorder = host.recorder](const std::string& run_id, steady_clock::time_point then) {
    return recorder.beat_since(run_id, then);
  };
  options.gone = &host.gone;
  // SQLite's clock is this host's: what this process saw of it tells whether events from its future are old.
  if (host.options.hearing && database_kind(host.options.store.url) == DatabaseKind::kSqlite) {
    options.future_is_old = since(host.options.hearing().clock_since) >= policy.grace;
  }
  // Others could not be seen while the server was down, or out of this daemon's reach.
  if (const auto age = store.server_age(); age && age.value()) options.could_be_seen_for = *age.value();
  if (const auto back = host.recorder.back_since()) {
    options.could_be_seen_for = std::min(options.could_be_seen_for.value_or(since(*back)), since(*back));
  }
  return options;
}

Policy rules_now(const PassHost& host, const ReconcilePolicy& policy, const PassPlan& plan) {
  Policy rules;
  rules.boot = plan.boot;
  rules.unvouched = plan.request.unvouched;
  rules.grace = policy.grace;
  rules.silent_after = policy.silent_after;
  if (host.options.hearing) rules.hearing_for = since(host.options.hearing().since);
  return rules;
}

// ---- before it

Result<void> Pass::wait_for_what_came() {
  const auto give_up = steady_clock::now() + kRequestPatience;
  const bool asked_for = plan_.trigger == "request";
  bool heard = !host_.options.hear_all;
  std::uint64_t received = host_.recorder.accepted_seq();
  while (true) {
    if (!heard) {
      const auto left = std::chrono::duration_cast<milliseconds>(give_up - steady_clock::now());
      heard = host_.options.hear_all(asked_for ? std::clamp(left, kTurn, kHearing) : kHearing);
      received = host_.recorder.accepted_seq();
    }
    if (heard && host_.recorder.wait_settled(kTurn) && host_.recorder.wait_applied(received, kTurn)) return {};
    if (!asked_for) liveness_.beat();
    if (host_.stopping()) return stopping_error();
    if (asked_for && steady_clock::now() >= give_up) {
      return Error{ErrorKind::kUnavailable,
                   "events that were received before could not be applied within 10 s, so nothing can be judged"};
    }
    if (!heard) std::this_thread::sleep_for(kTurn);  // nobody can be heard now, as when file descriptors are short
  }
}

Result<void> Pass::connect() {
  StoreOptions store_options = host_.options.store;
  if (plan_.trigger == "request")
    store_options.connect_timeout = std::min(store_options.connect_timeout, kRequestPatience);
  const auto open = [&](std::unique_ptr<Store>& store) -> Result<void> {
    if (store) return {};
    auto opened = open_store(store_options);
    if (!opened) return Error{ErrorKind::kUnavailable, opened.error().message};
    store = std::move(opened.value());
    return {};
  };
  if (const auto done = open(connections_.store); !done) return done;
  if (!plan_.only_named) {
    if (const auto done = open(connections_.reader); !done) return done;
  }
  if (host_.options.make_queue && !connections_.queue) connections_.queue = host_.options.make_queue();
  return {};
}

void Pass::prepare_evidence() {
  recorder_ = host_.recorder.self().id;
  EvidenceOptions options = evidence_options(host_, policy_, *connections_.store);
  future_is_old_ = options.future_is_old;
  evidence_ = std::make_unique<EvidenceGatherer>(std::move(options), connections_.queue.get());
}

// ---- from the lease to the report

Result<PassReport> Pass::run(std::string pass_id, const std::function<void()>& released) {
  if (const auto begun = begin(std::move(pass_id)); !begun) return begun.error();
  const bool breaker = policy_.max_stuck > 0 && !plan_.request.force && !plan_.request.dry_run;
  if (breaker) {
    if (const auto counted = count_first(); !counted) return counted.error();
  }
  if (!report_.stopped) {
    if (const auto done = look_through(!plan_.request.dry_run); !done) return done.error();
  }
  if (const auto done = finish(released); !done) return done.error();
  return report_;
}

Result<void> Pass::begin(std::string pass_id) {
  liveness_.beat();
  report_.pass_id = std::move(pass_id);
  report_.trigger = plan_.trigger;
  report_.dry_run = plan_.request.dry_run;
  const auto lease = connections_.store->acquire_pass(host_.recorder.self().id, kLease);
  if (!lease) return lease.error();
  if (!lease.value()) return Error{ErrorKind::kConflict, "another daemon is reconciling this database"};
  leased_ = true;
  lease_renewed_ = steady_clock::now();
  const auto started = connections_.store->database_now();
  if (!started) return started.error();
  report_.started_at = started.value();
  prepare_evidence();
  return save();
}

// The breaker: a look through all rows that marks nothing.
Result<void> Pass::count_first() {
  if (const auto counted = look_through(false); !counted) return counted.error();
  report_.stopped = report_.stuck > policy_.max_stuck;
  if (report_.stopped) {
    report_.stopped_because = fmt::format(
        "{} rows would be marked stuck, more than max_stuck allows ({}): nothing was marked; look at the runs, then "
        "confirm with run-recorder reconcile --force{}",
        report_.stuck, policy_.max_stuck, plan_.boot || plan_.request.unvouched ? " --unvouched" : "");
    return {};
  }
  PassReport fresh;
  fresh.pass_id = report_.pass_id;
  fresh.trigger = report_.trigger;
  fresh.started_at = report_.started_at;
  report_ = std::move(fresh);
  return {};
}

Result<void> Pass::finish(const std::function<void()>& released) {
  liveness_.beat();
  const auto finished = connections_.store->database_now();
  if (!finished) return finished.error();
  report_.finished_at = finished.value();
  // Whoever sees that it has finished may ask for another one.
  if (const auto done = connections_.store->release_pass(host_.recorder.self().id); !done) return done.error();
  leased_ = false;
  released();
  if (const auto saved = save(); !saved) return saved.error();
  log_summary();
  if (plan_.only_named) return {};
  // For the metrics; a pass over all rows is rare enough to count them, and what cannot be counted is left out.
  if (const auto counted = connections_.store->count_by_status(); counted) runs_by_status_ = counted.value();
  return {};
}

// A pass that failed half-way, or was stopped, does not keep others waiting. Where this fails too, the lease expires.
void Pass::give_up() {
  if (leased_) static_cast<void>(connections_.store->release_pass(host_.recorder.self().id));
  leased_ = false;
}

Result<void> Pass::save() {
  ReconciliationRow row;
  row.pass_id = report_.pass_id;
  row.recorder = host_.recorder.self().id;
  row.trigger = report_.trigger;
  row.started_at = report_.started_at;
  if (report_.finished_at != Timestamp{}) row.finished_at = report_.finished_at;
  row.report = report_.to_json();
  return connections_.store->save_reconciliation(row);
}

Result<void> Pass::renew_lease() {
  const auto lease = connections_.store->acquire_pass(host_.recorder.self().id, kLease);
  if (!lease) return lease.error();
  if (!lease.value()) return Error{ErrorKind::kConflict, "another daemon took over the reconciliation"};
  lease_renewed_ = steady_clock::now();
  return {};
}

// ---- which rows

Result<void> Pass::look_through(bool mark) {
  deferred_.clear();
  too_many_deferred_ = false;
  unheard_ = 0;
  if (!plan_.only_named) {
    EventWindow window = plan_.within.value_or(EventWindow{});
    const Timestamp ripe = report_.started_at - policy_.grace;
    window.before = plan_.within ? std::min(window.before, ripe) : ripe;
    if (future_is_old_) window.ahead_of = report_.started_at;
    if (const auto done = look_through_within(window, mark); !done) return done;
  }
  return look_through_named(mark);
}

Result<void> Pass::look_through_within(const EventWindow& window, bool mark) {
  const bool has_queue = connections_.queue != nullptr;
  if (!plan_.within) {
    const auto running = connections_.store->count_running_since(window.before, window.ahead_of);
    if (!running) return running.error();
    report_.deferred += running.value();
    const auto queued = has_queue ? connections_.store->count_queued_since(window.before) : Result<std::uint64_t>(0);
    if (!queued) return queued.error();
    report_.deferred += queued.value();
  }
  const ReadRows running = [&window](Store& store, std::string_view after) {
    return store.running_rows(after, kPageRows, window);
  };
  if (const auto done = look_through_pages(running, mark); !done) return done;
  if (!has_queue) return {};
  return look_through_pages(
      [&window](Store& store, std::string_view after) { return store.queued_rows(after, kPageRows, window); }, mark);
}

Result<void> Pass::look_through_pages(const ReadRows& read, bool mark) {
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
      next = run_aside([&read_behind, after = page.value().rows.back().run.run_id] { return read_behind(after); });
    }
    liveness_.beat();
    if (const auto renewed = renew_lease(); !renewed) return renewed.error();
    if (const auto judged = judge_page(page.value(), mark); !judged) return judged.error();
    if (!next.valid()) return {};
    page = next.get();
  }
}

Result<void> Pass::look_through_named(bool mark) {
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
  page.looked_at = steady_clock::now();
  page.rows = std::move(rows);
  page.facts = evidence_->gather(page.rows);
  return page;
}

// ---- one page

std::vector<Verdict> Pass::judge_all(const Page& page) const {
  const Policy rules = rules_now(host_, policy_, plan_);
  std::vector<Verdict> verdicts;
  verdicts.reserve(page.facts.size());
  for (const RowFacts& facts : page.facts) verdicts.push_back(judge(facts, rules));
  return verdicts;
}

Result<void> Pass::judge_page(const Page& page, bool mark) {
  const auto is_stuck = [](const Verdict& verdict) { return verdict.kind == VerdictKind::kStuck; };
  std::vector<Verdict> verdicts = judge_all(page);
  if (std::any_of(verdicts.begin(), verdicts.end(), is_stuck)) {
    const auto heard = wait_until_heard();
    if (!heard) return heard.error();
    // Meanwhile events may have been refused: then others may still have to be heard.
    verdicts = judge_all(page);
    for (Verdict& verdict : verdicts) {
      if (heard.value() || !is_stuck(verdict)) continue;
      verdict.kind = VerdictKind::kDeferred;
      verdict.reason = {};
      verdict.message += "; not everything that was sent could be read in time";
    }
  }
  if (mark) return mark_page(page, verdicts);
  const auto same = unmoved(page, verdicts);
  if (!same) return same.error();
  count_page(page, verdicts, same.value(), false);
  return {};
}

Result<bool> Pass::wait_until_heard() {
  if (host_.options.hear_all && !host_.options.hear_all(kHearing)) return false;
  const std::uint64_t accepted = host_.recorder.accepted_seq();
  while (!host_.recorder.wait_applied(accepted, kTurn)) {
    liveness_.beat();
    if (host_.stopping()) return stopping_error();
    if (leased_ && since(lease_renewed_) > kLeaseRenewed) {
      if (const auto renewed = renew_lease(); !renewed) return renewed.error();
    }
  }
  return true;
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
          now.last_event == then.last_event && !has_beaten_since(now, page.looked_at)) {
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
    if (verdicts[i].kind != VerdictKind::kStuck || has_beaten_since(row, page.looked_at)) continue;
    marks.push_back(mark_of(row, page.facts[i], verdicts[i], report_.pass_id));
  }
  std::set<std::string> marked;
  const Result<void> done = marks.empty() ? Result<void>() : mark(marks, marked);
  report_.marked += marked.size();
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
  if (!facts.too_young && rules_now(host_, policy_, plan_).hearing_for < policy_.grace) ++unheard_;
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
  // What was judged as this recorder's own may be another's by now.
  if (host_.recorder.self().id != recorder_) {
    return Error{ErrorKind::kConflict, "this daemon has taken a new recorder id, the pass ends"};
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
  auto others = run_aside([&] { return mark_on(*connections_.second, marks.subspan(half)); });
  const Result<void> first = note(mark_on(*connections_.store, marks.first(half)));
  const Result<void> second = note(others.get());
  return first ? second : first;
}

// ---- what ended

// By now everything that these processes had sent is applied, so that no row is found that would be raced.
Result<Pass::Ended> Pass::look_at(std::span<const ProcessEnd> ends) {
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
    ended.again.back().due = steady_clock::now() + found->second;
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
