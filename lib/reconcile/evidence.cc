#include "reconcile/evidence.h"

#include <fmt/compile.h>

#include <algorithm>
#include <iterator>

#include "process/identity.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLooksKept = 20'000;

std::string_view to_text(ProcessEvidence evidence) {
  switch (evidence) {
    case ProcessEvidence::kNone:
      return "none";
    case ProcessEvidence::kAlive:
      return "alive";
    case ProcessEvidence::kGone:
      return "gone";
  }
  return "";
}

}  // namespace

std::vector<RowFacts> EvidenceGatherer::gather(std::span<const RunningRow> rows) {
  std::vector<RowFacts> all;
  std::vector<JobAsked> jobs;
  std::vector<std::size_t> asking;  // which row asks for each
  all.reserve(rows.size());
  for (const RunningRow& row : rows) {
    all.push_back(facts_of(row));
    const RowFacts& facts = all.back();
    const bool foreign = facts.other_recorder && facts.other_recorder_seen;
    if (!queue_ || !facts.job_id || foreign) continue;
    jobs.push_back(*job_of(row.run));
    // What a queued run's job is at matters only where it is gone or has ended.
    if (facts.status == Status::kQueued) jobs.back().attempt.reset();
    asking.push_back(all.size() - 1);
  }
  if (jobs.empty()) return all;
  auto answers = queue_->look_up(jobs);
  for (std::size_t i = 0; i < asking.size() && i < answers.size(); ++i) all[asking[i]].job = std::move(answers[i]);
  return all;
}

RowFacts EvidenceGatherer::facts_of(const RunningRow& row) {
  const Run& run = row.run;
  RowFacts facts;
  facts.status = run.status;
  facts.silence = row.silence;
  if (run.expires_in) facts.expires_in = std::chrono::seconds{*run.expires_in};
  const auto beaten_within = [&](std::chrono::milliseconds time) {
    return options_.beat_since && options_.beat_since(run.run_id, std::chrono::steady_clock::now() - time);
  };
  if (facts.expires_in && facts.silence > *facts.expires_in && beaten_within(*facts.expires_in)) {
    facts.silence = *facts.expires_in;
  }
  facts.too_young = row.in_future ? !options_.future_is_old : facts.silence < options_.grace;
  facts.too_young = facts.too_young || beaten_within(options_.grace);
  facts.recorder = run.recorder;
  facts.other_recorder = !run.recorder.empty() && run.recorder != options_.recorder;
  if (facts.other_recorder) {
    const auto recent = [&](const std::optional<std::chrono::milliseconds>& ago) {
      return ago && *ago < options_.recorder_timeout;
    };
    facts.other_recorder_seen = recent(row.recorder_seen_ago) || recent(options_.could_be_seen_for);
  } else {
    look_at_processes(run, facts);
  }
  facts.dead_letter = row.dead_letter;
  facts.queue_configured = queue_ != nullptr;
  if (const auto job = job_of(run)) facts.job_id = job->job_id;
  return facts;
}

// The worker before whoever may tell of it: what is told after the first look is found by the second.
void EvidenceGatherer::look_at_processes(const Run& run, RowFacts& facts) {
  // A connection is named by the incarnation that it came to (EventServer).
  constexpr std::size_t kIncarnationDigits = 8;
  facts.received_here = !options_.incarnation.empty() &&
                        run.connection.starts_with(options_.incarnation.substr(0, kIncarnationDigits) + "-");
  facts.worker_named = !run.worker_process.empty();
  facts.worker = look(run.worker_process);
  facts.sender = look(run.sender_process);
  facts.connection_open = !run.connection.empty() && options_.connection_open(run.connection);
  if (facts.worker_named) facts.worker_text = describe(run.worker_process, facts.worker);
  if (!run.sender_process.empty()) facts.sender_text = describe(run.sender_process, facts.sender);
  if (facts.worker == ProcessEvidence::kAlive && options_.on_living_worker) {
    options_.on_living_worker(run.worker_process);
  }
  const bool may_tell = facts.sender == ProcessEvidence::kAlive || facts.connection_open;
  if (facts.worker == ProcessEvidence::kGone && may_tell && options_.gone) {
    const auto now = std::chrono::steady_clock::now();
    const auto since = options_.gone->note(run.worker_process, now);
    facts.worker_gone_for = std::chrono::duration_cast<std::chrono::milliseconds>(now - since);
  }
}

ProcessEvidence EvidenceGatherer::look(const std::string& identity) {
  if (identity.empty()) return ProcessEvidence::kNone;
  const auto known = looks_.find(identity);
  if (known != looks_.end()) return known->second;
  if (looks_.size() >= kLooksKept) looks_.clear();
  return looks_.emplace(identity, look_at(identity)).first->second;
}

// Put together as text: a pass may make half a million of them.
JsonText evidence_json(const RowFacts& facts, const RunningRow& row) {
  const auto seconds = [](std::chrono::milliseconds age) {
    return std::chrono::duration_cast<std::chrono::seconds>(age).count();
  };
  std::string text;
  const auto add = [&text](std::string_view name, const auto& value) {
    fmt::format_to(std::back_inserter(text), FMT_COMPILE("{}\"{}\":{}"), text.empty() ? '{' : ',', name, value);
  };
  add("status", json_string(to_string(facts.status)));
  add("silence_seconds", seconds(facts.silence));
  if (facts.expires_in) add("expires_in", facts.expires_in->count());
  if (!row.run.recorder.empty()) add("recorder", json_string(row.run.recorder));
  if (row.recorder_seen_ago && facts.other_recorder) {
    add("recorder_seen_seconds_ago", seconds(*row.recorder_seen_ago));
  }
  if (!row.run.worker_process.empty()) {
    add("worker_process", json_string(row.run.worker_process));
    add("worker", json_string(to_text(facts.worker)));
    if (facts.worker_gone_for) add("worker_gone_seconds", seconds(*facts.worker_gone_for));
  }
  if (!row.run.sender_process.empty()) {
    add("sender_process", json_string(row.run.sender_process));
    add("sender", json_string(to_text(facts.sender)));
  }
  add("connection_open", facts.connection_open);
  if (row.run.oban_job_id) add("oban_job_id", *row.run.oban_job_id);
  if (row.run.queue) add("queue", json_string(*row.run.queue));
  if (facts.job_id) add("job_id", json_string(*facts.job_id));
  if (facts.job && !facts.job->state.empty()) {
    add("job_state", json_string(facts.job->state));
    if (facts.job->attempt) add("job_attempt", *facts.job->attempt);
    if (facts.job->claimed_at) add("job_claimed_at", json_string(format_rfc3339(*facts.job->claimed_at)));
  }
  if (facts.job && facts.job->kind == JobAnswer::Kind::kAbsent) add("job_state", "null");
  return text + '}';
}

}  // namespace run_recorder
