#include "expect/expectation_watch.h"

#include <algorithm>
#include <set>

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kShortestPause{1'000};
constexpr milliseconds kIdlePause{30'000};
constexpr milliseconds kLongestPause{300'000};
constexpr int kRestPerWork = 20;
constexpr milliseconds kPatience{10'000};
constexpr milliseconds kLease{60'000};
constexpr milliseconds kRenewBefore{40'000};  // of the lease's end
constexpr milliseconds kTidyEvery{60'000};
constexpr std::chrono::minutes kAbandonedAfter{10};
constexpr std::chrono::minutes kLearnEvery{10};
constexpr milliseconds kLearnFrom{60'000};  // no learned limit is shorter
constexpr std::size_t kPage = 1'000;
constexpr std::size_t kMostLongRunning = 100'000;  // rows that are looked at
constexpr std::chrono::minutes kTurnTime{15};
constexpr int kLinesPerMinute = 100;

// Those that expect something else judge beside these.
std::string lease_name(const ExpectedRuns& expected) {
  return "expect/" + expected.fingerprint();
}

bool is_judged(const ExpectedRuns& expected, const ExpectationViews& seen, std::string_view expectation) {
  if (expectation.empty()) return expected.learns();
  const auto view = std::ranges::find(seen.views, expectation, &ExpectationView::name);
  return view != seen.views.end() && view->adopted;
}

}  // namespace

ExpectationWatch::ExpectationWatch(ExpectationWatchOptions options, Recorder& recorder)
    : options_(std::move(options)),
      recorder_(recorder),
      liveness_(kTurnTime),
      failing_(LogLevel::kWarning, "expectations cannot be judged", "expectations can be judged again"),
      disputed_(LogLevel::kWarning, "another daemon expects something else under the same name",
                "all daemons expect the same"),
      lines_(LogLevel::kWarning, kLinesPerMinute, "more findings of expectations"),
      expected_(std::make_shared<const ExpectedRuns>(options_.policy)),
      grace_(options_.grace) {}

ExpectationWatch::~ExpectationWatch() {
  stop();
}

void ExpectationWatch::start() {
  thread_ = std::thread([this] {
    name_this_thread("expectations");
    run();
  });
}

void ExpectationWatch::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ExpectationWatch::reconfigure(const ExpectPolicy& policy, milliseconds grace) {
  auto changed = std::make_shared<const ExpectedRuns>(policy);
  {
    const MutexLock lock(mutex_);
    expected_ = std::move(changed);
    grace_ = grace;
    reconfigured_ = true;
  }
  wake_.notify_all();
}

std::shared_ptr<const ExpectedRuns> ExpectationWatch::expected() const {
  const MutexLock lock(mutex_);
  return expected_;
}

ExpectationStatus ExpectationWatch::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

bool ExpectationWatch::pause(milliseconds time) {
  liveness_.beat(time + kTurnTime);
  MutexLock lock(mutex_);
  wake_.wait_for(lock, time, [this] {
    mutex_.assert_held();
    return stopping_ || reconfigured_;
  });
  reconfigured_ = false;
  return !stopping_;
}

void ExpectationWatch::run() {
  milliseconds rest = kShortestPause;
  while (pause(rest)) {
    lines_.tick();
    const bool idle = expected()->empty();
    rest = idle ? kIdlePause : kShortestPause;
    // While the database is away the next look is in time.
    if (recorder_.database().state != DatabaseState::kUp || !recorder_.wait_tables(milliseconds{0})) continue;
    const auto began = steady_clock::now();
    const auto looked = look();
    const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
    rest = std::clamp(kRestPerWork * took, rest, kLongestPause);
    {
      const MutexLock lock(mutex_);
      status_.failing = !looked;
    }
    if (looked) {
      failing_.clear();
    } else {
      // Of a database that is away the recorder speaks.
      if (looked.error().kind != ErrorKind::kUnavailable) failing_.report(looked.error().message);
      store_.reset();
      leased_until_ = {};
    }
    if (idle) store_.reset();
  }
  if (store_) static_cast<void>(store_->release_lease(lease_name(*expected()), recorder_.self().id));
  store_.reset();
  liveness_.rest();
}

// ---- one look

Result<void> ExpectationWatch::look() {
  if (!store_) {
    auto opened = open_store(options_.store);
    if (!opened) return opened.error();
    store_ = std::move(opened).value();
  }
  const auto expected = this->expected();
  const auto leased = holds_lease(*store_, *expected);
  if (!leased) return leased.error();
  if (!*leased) {
    auto seen = read_views(*store_, *expected);
    if (!seen) return seen.error();
    show(std::move(*seen));
    return {};
  }
  if (auto done = tidy(*store_, *expected); !done) return done;
  return judge(*store_, *expected);
}

Result<bool> ExpectationWatch::holds_lease(Store& store, const ExpectedRuns& expected) {
  if (expected.empty()) return true;
  const auto now = steady_clock::now();
  if (now + kRenewBefore < leased_until_ && tidied_for_ == expected.fingerprint()) return true;
  const auto taken = store.acquire_lease(lease_name(expected), recorder_.self().id, kLease);
  if (!taken) return taken.error();
  leased_until_ = *taken ? now + kLease : Steady::time_point{};
  return *taken;
}

Result<void> ExpectationWatch::tidy(Store& store, const ExpectedRuns& expected) {
  const auto now = steady_clock::now();
  if (expected.fingerprint() == tidied_for_ && now - tidied_at_ < kTidyEvery) return {};
  if (!expected.empty()) {
    if (auto adopted = store.adopt_expectations(recorder_.self(), expected.definitions()); !adopted) return adopted;
  }
  const auto ended = store.end_abandoned_findings(kAbandonedAfter);
  if (!ended) return ended.error();
  if (*ended > 0) log_info("findings of expectations that are no more are ended", {{"COUNT", *ended}});
  tidied_at_ = now;
  tidied_for_ = expected.fingerprint();
  return {};
}

// What would be written is looked at again once all that was received is applied: it may say otherwise.
Result<void> ExpectationWatch::judge(Store& store, const ExpectedRuns& expected) {
  auto seen = read_views(store, expected);
  if (!seen) return seen.error();
  const bool may = may_judge(seen->now);
  auto changes = find(store, expected, *seen);
  if (!changes) return changes.error();
  if (!may || (changes->opened.empty() && changes->ended.empty())) {
    show(std::move(*seen));
    return {};
  }
  if (!recorder_.wait_applied(recorder_.accepted_seq(), kPatience)) return {};
  seen = read_views(store, expected);
  if (!seen) return seen.error();
  changes = find(store, expected, *seen);
  if (!changes) return changes.error();
  if (auto written = write(store, *seen, *changes); !written) return written;
  seen = read_views(store, expected);
  if (!seen) return seen.error();
  show(std::move(*seen));
  return {};
}

// Not before everybody who could not be heard has had the grace to speak, and not by a clock that has just leapt.
bool ExpectationWatch::may_judge(Timestamp database_now) {
  const milliseconds grace = [this] {
    const MutexLock lock(mutex_);
    return grace_;
  }();
  const auto now = steady_clock::now();
  const bool steady = clock_watch_.steady_for(grace, database_now, now);
  const auto heard_since =
      std::max(options_.accepting_since(), recorder_.back_since().value_or(Steady::time_point{}));
  return steady && now - heard_since >= grace;
}

void ExpectationWatch::show(ExpectationViews&& seen) {
  std::map<FindingKind, std::uint64_t> open;
  std::uint64_t learned = 0;
  for (const Finding& finding : seen.open) {
    ++open[finding.kind];
    learned += finding.expectation.empty() ? 1U : 0U;
  }
  const bool disputed = std::ranges::any_of(seen.views, &ExpectationView::disputed);
  disputed ? disputed_.report("see run-recorder expect") : disputed_.clear();
  const MutexLock lock(mutex_);
  status_.learned_open = learned;
  status_.views = std::move(seen.views);
  status_.open = std::move(open);
}

Result<FoundChanges> ExpectationWatch::find(Store& store, const ExpectedRuns& expected,
                                            const ExpectationViews& seen) {
  FoundChanges changes = judge_starts(expected, seen);
  auto overlong = find_overlong(store, expected, seen);
  if (!overlong) return overlong.error();
  std::erase_if(*overlong,
                [&](const NewFinding& finding) { return !is_judged(expected, seen, finding.expectation); });
  const auto ended = find_over(store, expected, seen, *overlong);
  if (!ended) return ended.error();
  changes.ended.insert(changes.ended.end(), ended->begin(), ended->end());
  std::set<std::pair<std::string_view, std::string_view>> known;
  for (const Finding& finding : seen.open) {
    if (finding.kind == FindingKind::kOverlong) known.emplace(finding.expectation, finding.run_id);
  }
  std::ranges::copy_if(*overlong, std::back_inserter(changes.opened), [&known](const NewFinding& finding) {
    return !known.contains({finding.expectation, finding.run_id});
  });
  return changes;
}

Result<std::vector<FindingEnd>> ExpectationWatch::find_over(Store& store, const ExpectedRuns& expected,
                                                            const ExpectationViews& seen,
                                                            std::span<const NewFinding> overlong) {
  std::vector<Finding> judged;
  std::ranges::copy_if(seen.open, std::back_inserter(judged),
                       [&](const Finding& finding) { return is_judged(expected, seen, finding.expectation); });
  std::set<std::string_view> still;
  for (const NewFinding& finding : overlong) still.insert(finding.run_id);
  std::vector<std::string> others;
  for (const Finding& finding : judged) {
    if (finding.kind == FindingKind::kOverlong && !still.contains(finding.run_id)) others.push_back(finding.run_id);
  }
  std::map<std::string, Status, std::less<>> status_of;
  for (const std::string_view run_id : still) status_of.emplace(run_id, Status::kRunning);
  for (std::size_t done = 0; done < others.size(); done += kPage) {
    liveness_.beat();
    const std::span some = std::span(others).subspan(done, std::min(kPage, others.size() - done));
    const auto rows = store.rows_named(some);
    if (!rows) return rows.error();
    for (const RunningRow& row : *rows) status_of.emplace(row.run.run_id, row.run.status);
  }
  return judge_overlong(judged, overlong, status_of);
}

Result<std::vector<NewFinding>> ExpectationWatch::find_overlong(Store& store, const ExpectedRuns& expected,
                                                                const ExpectationViews& seen) {
  std::vector<NewFinding> found;
  auto shortest = expected.shortest_max_duration();
  if (expected.learns()) shortest = std::min(shortest.value_or(kLearnFrom), kLearnFrom);
  if (!shortest) return found;
  const auto limit_of = [&](std::string_view council) { return learned(store, council); };
  std::string after;
  for (std::size_t looked = 0; looked < kMostLongRunning;) {
    liveness_.beat();
    const auto rows = store.long_running(seen.now - *shortest, after, kPage);
    if (!rows) return rows.error();
    std::ranges::move(judge_running(expected, *rows, seen.now, limit_of), std::back_inserter(found));
    looked += rows->size();
    if (rows->size() < kPage) break;
    after = rows->back().run.run_id;
  }
  return found;
}

// A council whose history cannot be read has no limit for the moment.
std::optional<milliseconds> ExpectationWatch::learned(Store& store, std::string_view council) {
  const auto now = steady_clock::now();
  const auto known = learned_.find(council);
  if (known != learned_.end() && now - known->second.at < kLearnEvery) return known->second.limit;
  Learned fresh{{}, now};
  if (auto durations = store.durations(council, kLearnedRuns)) {
    if (const auto usual = usual_of(std::move(*durations))) fresh.limit = learned_limit(*usual);
  }
  if (learned_.size() >= kSearchedCouncils) learned_.clear();
  return learned_.insert_or_assign(std::string(council), fresh).first->second.limit;
}

Result<void> ExpectationWatch::write(Store& store, const ExpectationViews& seen, const FoundChanges& changes) {
  for (std::size_t done = 0; done < changes.opened.size(); done += kPage) {
    liveness_.beat();
    const std::span some = std::span(changes.opened).subspan(done, std::min(kPage, changes.opened.size() - done));
    const auto opened = store.open_findings(recorder_.self(), some);
    if (!opened) return opened.error();
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (opened.value()[i]) log_opened(some[i]);
    }
  }
  for (std::size_t done = 0; done < changes.ended.size(); done += kPage) {
    liveness_.beat();
    const std::span some = std::span(changes.ended).subspan(done, std::min(kPage, changes.ended.size() - done));
    const auto ended = store.end_findings(some);
    if (!ended) return ended.error();
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (ended.value()[i]) log_ended(seen, some[i]);
    }
  }
  return {};
}

void ExpectationWatch::log_opened(const NewFinding& finding) {
  {
    const MutexLock lock(mutex_);
    ++status_.opened[finding.kind];
  }
  if (!lines_.admit()) return;
  switch (finding.kind) {
    case FindingKind::kMissed:
      log_warning("no run started in time", {{"EXPECTATION", finding.expectation},
                                             {"COUNCIL", finding.council},
                                             {"DUE_AT", format_rfc3339(finding.due_at.value_or(Timestamp{}))}});
      break;
    case FindingKind::kOverlong:
      log_warning("a run lasts longer than allowed",
                  {{"EXPECTATION", finding.expectation.empty() ? std::string("(learned)") : finding.expectation},
                   {"RUN_ID", finding.run_id},
                   {"COUNCIL", finding.council},
                   {"ALLOWED", format_duration(finding.allowed.value_or(milliseconds{0}))}});
      break;
  }
}

void ExpectationWatch::log_ended(const ExpectationViews& seen, const FindingEnd& end) {
  const auto found = std::ranges::find(seen.open, end.id, &Finding::id);
  if (found == seen.open.end() || !lines_.admit()) return;
  const std::string expectation = found->expectation.empty() ? std::string("(learned)") : found->expectation;
  if (end.by == kExpectedNoMore) {
    log_info("a finding is none any more: what is expected has changed",
             {{"EXPECTATION", expectation}, {"COUNCIL", found->council}});
  } else if (found->kind == FindingKind::kMissed) {
    log_info("a run that was missed started",
             {{"EXPECTATION", expectation}, {"COUNCIL", found->council}, {"RUN_ID", end.by}});
  } else {
    log_info("a run that lasted too long is over",
             {{"EXPECTATION", expectation}, {"COUNCIL", found->council}, {"RUN_ID", found->run_id}, {"BY", end.by}});
  }
}

}  // namespace run_recorder
