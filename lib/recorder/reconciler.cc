#include "recorder/reconciler.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/aside.h"
#include "base/log.h"
#include "base/url.h"
#include "base/uuid.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPageRows = 4'000;
constexpr std::size_t kMarksToShare = 500;
constexpr std::size_t kDeferredJobsKept = 10'000;
constexpr std::size_t kCountedGroups = 1'000;
constexpr milliseconds kLease{60'000};
constexpr milliseconds kRequestPatience{10'000};
constexpr milliseconds kRetryPause{1'000};
constexpr std::chrono::seconds kIdleTurn{5};
constexpr std::chrono::minutes kPageTime{3};  // several calls to database and queue, each to its deadline

Error stopping_error() {
  return Error{ErrorKind::kUnavailable, "the daemon is stopping"};
}

JsonText error_object(const Verdict& verdict, std::string_view pass_id, const RowFacts& facts,
                      const RunningRow& row) {
  return fmt::format("{{\"kind\":\"stuck\",\"reason\":{},\"message\":{},\"pass_id\":{},\"evidence\":{}}}",
                     json_string(verdict.reason), json_string(verdict.message), json_string(pass_id),
                     evidence_json(facts, row));
}

}  // namespace

// Rows and what is known of each.
struct Reconciler::Page {
  std::vector<RunningRow> rows;
  std::vector<RowFacts> facts;
};

struct Reconciler::Pass {
  PassReport report;
  std::string recorder;  // whose own rows it judges
  ReconcilePolicy policy;
  std::unique_ptr<Store> store;
  std::unique_ptr<Store> reader;  // the next page is read while this one is marked
  std::unique_ptr<Store> second;  // where many rows are marked; empty: not needed so far
  std::unique_ptr<JobQueue> queue;
  std::unique_ptr<EvidenceGatherer> evidence;
  bool has_turn = false;                   // status_.running is set for it
  std::vector<std::string> deferred_jobs;  // rows deferred because their job just changed
  std::uint64_t logged = 0;
  std::map<std::pair<std::string, std::string>, std::uint64_t> unlogged;  // (council, reason) -> rows
  Pulse* pulse = nullptr;
  bool leased = false;
};

Reconciler::Reconciler(ReconcilerOptions options, Recorder& recorder)
    : options_(std::move(options)),
      recorder_(recorder),
      own_pulse_(kPageTime),
      request_pulse_(kPageTime),
      left_(LogLevel::kInfo, "reconciliation left to the daemon that is at it", "reconciliation goes on here"),
      failing_(LogLevel::kWarning, "reconciliation failed, nothing more is marked until it is tried again",
               "reconciliation works again"),
      policy_(options_.policy) {}

Reconciler::~Reconciler() {
  stop();
}

void Reconciler::start() {
  thread_ = std::thread([this] {
    name_this_thread("reconciler");
    run();
    own_pulse_.rest();
  });
}

void Reconciler::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Reconciler::reconfigure(const ReconcilePolicy& changed) {
  const std::lock_guard lock(mutex_);
  policy_ = changed;
  stop_.notify_all();
}

ReconcilePolicy Reconciler::policy() const {
  const std::lock_guard lock(mutex_);
  return policy_;
}

ReconcilerStatus Reconciler::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

bool Reconciler::sleep_until(steady_clock::time_point until) {
  std::unique_lock lock(mutex_);
  return !wait_until(lock, until, [this] { return stopping_; });
}

bool Reconciler::wait_until(std::unique_lock<std::mutex>& lock, steady_clock::time_point until,
                            const std::function<bool()>& wake) {
  while (true) {
    own_pulse_.beat();
    const auto turn_ends = steady_clock::now() + kIdleTurn;
    if (stop_.wait_until(lock, std::min<steady_clock::time_point>(until, turn_ends), wake)) return true;
    if (until <= turn_ends) return false;
  }
}

// ---- when

void Reconciler::run() {
  if (!boot()) return;
  auto last = steady_clock::now();
  while (true) {
    std::unique_lock lock(mutex_);
    const milliseconds interval = policy_.interval;
    auto due = interval.count() == 0 ? steady_clock::now() + std::chrono::hours{24} : last + interval;
    const bool second_boot_next = second_boot_ && second_boot_->due <= due;
    if (second_boot_next) due = second_boot_->due;
    if (wait_until(lock, due, [&] { return stopping_ || policy_.interval != interval; })) {
      if (stopping_) return;
      continue;
    }
    lock.unlock();
    if (second_boot_next) {
      if (!wait_for_database()) return;
      second_boot();
      continue;
    }
    if (interval.count() == 0) continue;
    last = steady_clock::now();
    if (!wait_for_database()) return;
    Pass pass;
    note(try_pass(Plan{"interval", {}, false, {}, {}, {}}, pass));
  }
}

bool Reconciler::wait_for_database() {
  while (recorder_.status().database != DatabaseState::kUp) {
    if (!sleep_until(steady_clock::now() + milliseconds{100})) return false;
  }
  return true;
}

// The boot pass: tried until it ends. A second one over the rows it deferred is due once the grace has ended.
bool Reconciler::boot() {
  while (true) {
    if (!wait_for_database()) return false;
    Pass pass;
    const auto outcome = try_pass(Plan{"boot", {}, true, {}, {}, {}}, pass);
    note(outcome);
    if (outcome) {
      if (pass.report.deferred > 0) {
        const Timestamp started = pass.report.started_at;
        const milliseconds grace = policy().grace;
        second_boot_ = SecondBoot{Plan{"boot", {}, true, started - grace, started, std::move(pass.deferred_jobs)},
                                  steady_clock::now() + grace + milliseconds{50}};
      }
      const std::lock_guard lock(mutex_);
      status_.boot_done = true;
      return !stopping_;
    }
    if (!sleep_until(steady_clock::now() + kRetryPause)) return false;
  }
}

void Reconciler::second_boot() {
  Pass pass;
  const auto outcome = try_pass(second_boot_->plan, pass);
  note(outcome);
  if (outcome) {
    second_boot_.reset();
  } else {
    second_boot_->due = steady_clock::now() + kRetryPause;
  }
}

void Reconciler::note(const Result<PassReport>& outcome) {
  const std::lock_guard lock(mutex_);
  if (!outcome) {
    ++status_.failures;
    if (outcome.error().kind == ErrorKind::kConflict) {
      left_.report(outcome.error().message);
    } else if (!stopping_) {
      failing_.report(outcome.error().message);
    }
    return;
  }
  left_.clear();
  failing_.clear();
  ++status_.passes;
  const PassReport& report = outcome.value();
  if (report.marked > 0) {
    for (const auto& [reason, count] : report.reasons) status_.findings[reason] += count;
  }
  status_.last_good_at = report.finished_at;
  status_.last = report;
  status_.last->runs.clear();
}

Result<PassReport> Reconciler::reconcile(const PassRequest& request) {
  Pass pass;
  auto outcome = try_pass(Plan{"request", request, request.unvouched, {}, {}, {}}, pass);
  if (outcome || outcome.error().kind != ErrorKind::kConflict) note(outcome);
  return outcome;
}

// ---- one pass

// Waits for everything received so far, takes the lease, runs the pass.
Result<PassReport> Reconciler::try_pass(const Plan& plan, Pass& pass) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return stopping_error();
    if (status_.running) return Error{ErrorKind::kConflict, "another reconciliation is running"};
  }
  const auto give_up = steady_clock::now() + kRequestPatience;
  const std::uint64_t received = recorder_.accepted_seq();
  const bool own = plan.trigger != "request";
  pass.pulse = own ? &own_pulse_ : &request_pulse_;
  while (!recorder_.wait_settled(milliseconds{100}) || !recorder_.wait_applied(received, milliseconds{100})) {
    if (own) own_pulse_.beat();
    const std::lock_guard lock(mutex_);
    if (stopping_) return stopping_error();
    if (plan.trigger == "request" && steady_clock::now() >= give_up) {
      return Error{ErrorKind::kUnavailable,
                   "events that were received before could not be applied within 10 s, so nothing can be judged"};
    }
  }
  StoreOptions store_options = options_.store;
  if (plan.trigger == "request")
    store_options.connect_timeout = std::min(store_options.connect_timeout, kRequestPatience);
  auto store = open_store(store_options);
  if (!store) return Error{ErrorKind::kUnavailable, store.error().message};
  pass.store = std::move(store.value());
  auto reader = open_store(store_options);
  if (!reader) return Error{ErrorKind::kUnavailable, reader.error().message};
  pass.reader = std::move(reader.value());
  {
    const std::lock_guard lock(mutex_);
    if (status_.running) return Error{ErrorKind::kConflict, "another reconciliation is running"};
    status_.running = true;
    pass.has_turn = true;
  }
  auto outcome = run_pass(plan, pass);
  // A pass that failed half-way, or was stopped, does not keep others waiting. Where this fails too, the lease
  // expires.
  if (!outcome && pass.leased) static_cast<void>(pass.store->release_pass(recorder_.self().id));
  if (own) {
    own_pulse_.beat();
  } else {
    request_pulse_.rest();
  }
  end_turn(pass);
  return outcome;
}

void Reconciler::end_turn(Pass& pass) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(pass.has_turn, false)) return;
  status_.running = false;
  status_.under_way.reset();
}

Result<PassReport> Reconciler::run_pass(const Plan& plan, Pass& pass) {
  PassReport& report = pass.report;
  pass.policy = policy();
  pass.recorder = recorder_.self().id;
  pass.pulse->beat();
  report.pass_id = time_ordered_uuid(now_utc());
  report.trigger = plan.trigger;
  report.dry_run = plan.request.dry_run;
  const auto lease = pass.store->acquire_pass(recorder_.self().id, kLease);
  if (!lease) return lease.error();
  if (!lease.value()) return Error{ErrorKind::kConflict, "another daemon is reconciling this database"};
  pass.leased = true;
  const auto started = pass.store->database_now();
  if (!started) return started.error();
  report.started_at = started.value();
  if (options_.make_queue) pass.queue = options_.make_queue();
  pass.evidence = std::make_unique<EvidenceGatherer>(evidence_options(*pass.store), pass.queue.get());
  if (const auto saved = save(pass); !saved) return saved.error();

  const bool breaker = pass.policy.max_stuck > 0 && !plan.request.force && !plan.request.dry_run;
  if (breaker) {
    if (const auto counted = look_through(plan, pass, false); !counted) return counted.error();
    report.stopped = report.stuck > pass.policy.max_stuck;
    if (report.stopped) {
      report.stopped_because = fmt::format(
          "{} rows would be marked stuck, more than max_stuck allows ({}): nothing was marked; look at the runs, "
          "then "
          "confirm with run-recorder reconcile --force{}",
          report.stuck, pass.policy.max_stuck, plan.vouching_required ? " --unvouched" : "");
    }
  }
  if (!report.stopped) {
    if (breaker) {
      PassReport fresh;
      fresh.pass_id = report.pass_id;
      fresh.trigger = report.trigger;
      fresh.started_at = report.started_at;
      report = std::move(fresh);
    }
    if (const auto done = look_through(plan, pass, !plan.request.dry_run); !done) return done.error();
  }
  pass.pulse->beat();
  const auto finished = pass.store->database_now();
  if (!finished) return finished.error();
  report.finished_at = finished.value();
  // Whoever sees that it has finished may ask for another one.
  if (const auto released = pass.store->release_pass(recorder_.self().id); !released) return released.error();
  pass.leased = false;
  end_turn(pass);
  if (const auto saved = save(pass); !saved) return saved.error();
  log_summary(pass);
  // For the metrics; a pass is rare enough to count all rows, and what cannot be counted is left out.
  if (const auto counted = pass.store->count_by_status(); counted) {
    const std::lock_guard lock(mutex_);
    status_.runs_by_status = counted.value();
  }
  return report;
}

Result<void> Reconciler::look_through(const Plan& plan, Pass& pass, bool mark) {
  pass.deferred_jobs.clear();
  const Timestamp ripe = pass.report.started_at - pass.policy.grace;
  const Timestamp before = plan.before ? std::min(*plan.before, ripe) : ripe;
  if (!plan.before) {
    const auto deferred = pass.store->count_running_since(ripe);
    if (!deferred) return deferred.error();
    pass.report.deferred += deferred.value();
  }
  const auto read_behind = [&](std::string after) { return read_page(plan, pass, std::move(after), before); };
  auto page = read_behind({});
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return stopping_error();
      status_.under_way = PassProgress{pass.report.pass_id, pass.report.examined, pass.report.marked};
    }
    if (!page) return page.error();
    const std::vector<RunningRow>& rows = page.value().rows;
    std::future<Result<Page>> next;
    if (rows.size() == kPageRows)
      next = run_aside([&, after = rows.back().run.run_id] { return read_behind(after); });
    pass.pulse->beat();
    const auto lease = pass.store->acquire_pass(recorder_.self().id, kLease);
    if (!lease) return lease.error();
    if (!lease.value()) return Error{ErrorKind::kConflict, "another daemon took over the reconciliation"};
    if (const auto judged = judge_page(plan, pass, page.value(), mark); !judged) return judged.error();
    if (!next.valid()) break;
    page = next.get();
  }
  for (const std::string& run_id : plan.also) {
    pass.pulse->beat();
    const auto row = pass.store->running_row(run_id);
    if (!row) return row.error();
    if (!row.value() || row.value()->run.status != Status::kRunning || row.value()->silence < pass.policy.grace)
      continue;
    Page one;
    one.rows.push_back(*row.value());
    one.facts = pass.evidence->gather(one.rows);
    if (const auto judged = judge_page(plan, pass, one, mark); !judged) return judged.error();
  }
  return {};
}

Result<Reconciler::Page> Reconciler::read_page(const Plan& plan, Pass& pass, std::string after, Timestamp before) {
  auto rows = pass.reader->running_rows(after, kPageRows, plan.not_before, before);
  if (!rows) return rows.error();
  Page page;
  page.rows = std::move(rows.value());
  page.facts = pass.evidence->gather(page.rows);
  return page;
}

Result<void> Reconciler::judge_page(const Plan& plan, Pass& pass, const Page& page, bool mark) {
  const Policy policy{plan.vouching_required, pass.policy.grace, pass.policy.silent_after};
  const auto& [rows, facts] = page;
  std::vector<Verdict> verdicts;
  verdicts.reserve(rows.size());
  for (const RowFacts& row_facts : facts) verdicts.push_back(judge(row_facts, policy));
  if (mark) return mark_page(pass, page, verdicts);
  for (std::size_t i = 0; i < rows.size(); ++i) pass.report.count(rows[i], verdicts[i].kind, verdicts[i].reason);
  return {};
}

Result<void> Reconciler::mark_page(Pass& pass, const Page& page, std::span<const Verdict> verdicts) {
  const auto& [rows, facts] = page;
  std::vector<StuckMark> marks;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (verdicts[i].kind == VerdictKind::kDeferred && pass.deferred_jobs.size() < kDeferredJobsKept) {
      pass.deferred_jobs.push_back(rows[i].run.run_id);
    }
    if (verdicts[i].kind != VerdictKind::kStuck) continue;
    StuckMark mark;
    mark.run_id = rows[i].run.run_id;
    mark.expected_last_seq = rows[i].run.last_seq;
    mark.error = error_object(verdicts[i], pass.report.pass_id, facts[i], rows[i]);
    // Another execution's state says nothing of how this one ended.
    const auto& job = facts[i].job;
    if (job && !job->state.empty() && job->kind != JobAnswer::Kind::kOtherExecution) mark.job_state = job->state;
    marks.push_back(std::move(mark));
  }
  std::set<std::string> marked;
  const Result<void> done = marks.empty() ? Result<void>() : mark(pass, marks, marked);
  pass.report.marked += marked.size();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool raced = verdicts[i].kind == VerdictKind::kStuck && !marked.contains(rows[i].run.run_id);
    if (raced && !done) continue;  // nobody knows
    if (raced) {
      pass.report.count(rows[i], VerdictKind::kRaced, "raced");
      continue;
    }
    pass.report.count(rows[i], verdicts[i].kind, verdicts[i].reason);
    if (verdicts[i].kind == VerdictKind::kStuck) log_row(pass, rows[i], verdicts[i]);
  }
  return done;
}

// Many at once are shared between two connections, because one backend of PostgreSQL uses one processor. `marked`
// gets what was marked, also where a part of it failed.
Result<void> Reconciler::mark(Pass& pass, std::span<const StuckMark> marks, std::set<std::string>& marked) {
  // What was judged as this recorder's own may be another's by now.
  if (recorder_.self().id != pass.recorder) {
    return Error{ErrorKind::kConflict, "this daemon has taken a new recorder id, the pass ends"};
  }
  const auto mark_on = [&](Store& store, std::span<const StuckMark> some) {
    return store.mark_stuck(recorder_.self(), pass.report.pass_id, some);
  };
  const auto note = [&](const Result<std::vector<std::string>>& done) -> Result<void> {
    if (!done) return done.error();
    marked.insert(done.value().begin(), done.value().end());
    return {};
  };
  const bool many = marks.size() >= kMarksToShare && database_kind(options_.store.url) == DatabaseKind::kPostgres;
  if (many && !pass.second) {
    if (auto opened = open_store(options_.store); opened) pass.second = std::move(opened.value());
  }
  if (!many || !pass.second) return note(mark_on(*pass.store, marks));
  const std::size_t half = marks.size() / 2;
  auto others = run_aside([&] { return mark_on(*pass.second, marks.subspan(half)); });
  const Result<void> first = note(mark_on(*pass.store, marks.first(half)));
  const Result<void> second = note(others.get());
  return first ? second : first;
}

Result<void> Reconciler::save(Pass& pass) {
  ReconciliationRow row;
  row.pass_id = pass.report.pass_id;
  row.recorder = recorder_.self().id;
  row.trigger = pass.report.trigger;
  row.started_at = pass.report.started_at;
  if (pass.report.finished_at != Timestamp{}) row.finished_at = pass.report.finished_at;
  row.report = pass.report.to_json();
  return pass.store->save_reconciliation(row);
}

EvidenceOptions Reconciler::evidence_options(Store& store) const {
  EvidenceOptions options;
  options.recorder = recorder_.self().id;
  options.recorder_timeout = policy().recorder_timeout;
  options.connection_open = options_.connection_open;
  // Others could not be seen while the server was down, or out of this daemon's reach.
  if (const auto age = store.server_age(); age && age.value()) options.could_be_seen_for = *age.value();
  if (const auto back = recorder_.back_since()) {
    const auto since = std::chrono::duration_cast<milliseconds>(steady_clock::now() - *back);
    options.could_be_seen_for = std::min(options.could_be_seen_for.value_or(since), since);
  }
  return options;
}

// ---- the log

void Reconciler::log_row(Pass& pass, const RunningRow& row, const Verdict& verdict) {
  const Run& run = row.run;
  if (pass.logged >= pass.policy.log_rows) {
    std::pair<std::string, std::string> group{run.council, std::string(verdict.reason)};
    if (pass.unlogged.size() >= kCountedGroups && !pass.unlogged.contains(group)) group.first = "(other)";
    ++pass.unlogged[group];
    return;
  }
  ++pass.logged;
  log_warning("run is stuck",
              {{"RUN_ID", run.run_id},
               {"COUNCIL", run.council},
               {"ATTEMPT", run.attempt},
               {"OBAN_JOB_ID", run.oban_job_id ? std::to_string(*run.oban_job_id) : std::string("none")},
               {"AGE_SECONDS", std::chrono::duration_cast<std::chrono::seconds>(row.silence).count()},
               {"REASON", verdict.reason},
               {"EVIDENCE", verdict.message},
               {"PASS_ID", pass.report.pass_id}});
}

void Reconciler::log_summary(const Pass& pass) {
  const PassReport& report = pass.report;
  for (const auto& [group, count] : pass.unlogged) {
    log_warning("more runs are stuck",
                {{"COUNCIL", group.first}, {"REASON", group.second}, {"COUNT", count}, {"PASS_ID", report.pass_id}});
  }
  std::string reasons;
  for (const auto& [reason, count] : report.reasons) {
    reasons += fmt::format("{}{} {}", reasons.empty() ? "" : ", ", count, reason);
  }
  const std::string message = fmt::format(
      "reconciliation{} {}: {} examined, {} alive, {} stuck, {} unknown, {} raced, {} foreign; {} marked, {} "
      "deferred",
      report.dry_run ? " (dry run)" : "", report.stopped ? "stopped" : "finished", report.examined, report.alive,
      report.stuck, report.unknown, report.raced, report.foreign, report.marked, report.deferred);
  if (report.stopped) {
    log_error(message, {{"TRIGGER", report.trigger}, {"PASS_ID", report.pass_id}, {"WHY", report.stopped_because}});
    return;
  }
  log_info(message, {{"TRIGGER", report.trigger},
                     {"REASONS", reasons.empty() ? std::string("none") : reasons},
                     {"PASS_ID", report.pass_id}});
}

// ---- explain

Result<JsonText> Reconciler::explain(Store& store, std::string_view run_id) {
  const auto found = store.running_row(run_id);
  if (!found) return found.error();
  if (!found.value()) return Error{ErrorKind::kNotFound, fmt::format("there is no run {}", run_id)};
  const RunningRow& row = *found.value();
  const ReconcilePolicy now = policy();
  const auto queue = options_.make_queue ? options_.make_queue() : nullptr;
  EvidenceGatherer evidence(evidence_options(store), queue.get());
  const std::vector<RowFacts> facts = evidence.gather({&row, 1});
  const Verdict verdict = judge(facts.front(), Policy{false, now.grace, now.silent_after});

  nlohmann::ordered_json out;
  const Run& run = row.run;
  out["run_id"] = run.run_id;
  out["council"] = run.council;
  out["status"] = to_string(run.status);
  out["attempt"] = run.attempt;
  out["oban_job_id"] = run.oban_job_id ? nlohmann::ordered_json(*run.oban_job_id) : nlohmann::ordered_json();
  out["age_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(row.silence).count();
  if (run.status != Status::kRunning) {
    out["verdict"] = nullptr;
    out["reason"] = nullptr;
    out["message"] = fmt::format("the run is {}: reconciliation looks at running rows only", to_string(run.status));
  } else if (row.silence <= now.grace) {
    out["verdict"] = to_string(VerdictKind::kDeferred);
    out["reason"] = nullptr;
    out["message"] =
        fmt::format("its last event was applied less than the grace of {} ago", format_duration(now.grace));
  } else {
    out["verdict"] = to_string(verdict.kind);
    out["reason"] = verdict.reason.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(verdict.reason);
    out["message"] = verdict.message;
  }
  out["rules"] = nlohmann::ordered_json::array();
  for (const RuleAnswer& rule : verdict.rules) {
    nlohmann::ordered_json answer;
    answer["rule"] = rule.rule;
    answer["name"] = rule.name;
    answer["verdict"] = rule.verdict ? nlohmann::ordered_json(to_string(*rule.verdict)) : nlohmann::ordered_json();
    answer["reason"] = rule.reason.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(rule.reason);
    answer["detail"] = rule.detail;
    out["rules"].push_back(std::move(answer));
  }
  return out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace run_recorder
