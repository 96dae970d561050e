#include "reconcile/evidence.h"

#include <algorithm>

#include "base/json_writer.h"
#include "process/identity.h"

namespace run_recorder {
namespace {

constexpr std::size_t kChecksKept = 20'000;

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

RowFacts EvidenceGatherer::gather(const RunningGroup& group) {
  RunningRow least;
  least.run.status = Status::kRunning;
  least.run.recorder = group.recorder;
  least.run.worker_process = group.worker_process;
  least.run.sender_process = group.sender_process;
  least.run.connection = group.connection;
  if (group.expires) least.run.expires_in = 1;
  least.silence = std::chrono::milliseconds::max();
  return facts_of(least);
}

RowFacts EvidenceGatherer::facts_of(const RunningRow& row) {
  const Run& run = row.run;
  RowFacts facts;
  facts.status = run.status;
  facts.silence = row.silence;
  if (run.expires_in) facts.expires_in = std::chrono::seconds{*run.expires_in};
  const auto beaten_within = [&](std::chrono::milliseconds time) {
    return options_.beat_since && options_.beat_since(run.run_id, options_.clock() - time);
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
    check_processes(run, facts);
  }
  facts.dead_letter = row.dead_letter;
  facts.queue_configured = queue_ != nullptr;
  if (const auto job = job_of(run)) facts.job_id = job->job_id;
  return facts;
}

// The worker before whoever may tell of it: what is told after the first check is found by the second.
void EvidenceGatherer::check_processes(const Run& run, RowFacts& facts) {
  // A connection is named by the incarnation that it came to (EventServer).
  constexpr std::size_t kIncarnationDigits = 8;
  facts.received_here = !options_.incarnation.empty() &&
                        run.connection.starts_with(options_.incarnation.substr(0, kIncarnationDigits) + "-");
  facts.worker_named = !run.worker_process.empty();
  facts.worker = check(run.worker_process);
  facts.sender = check(run.sender_process);
  facts.connection_open = !run.connection.empty() && options_.connection_open(run.connection);
  if (facts.worker_named) facts.worker_text = describe(run.worker_process, facts.worker);
  if (!run.sender_process.empty()) facts.sender_text = describe(run.sender_process, facts.sender);
  if (facts.worker == ProcessEvidence::kAlive && options_.on_living_worker) {
    options_.on_living_worker(run.worker_process);
  }
  const bool may_tell = facts.sender == ProcessEvidence::kAlive || facts.connection_open;
  if (facts.worker == ProcessEvidence::kGone && may_tell && options_.gone) {
    const auto now = options_.clock();
    const auto since = options_.gone->note(run.worker_process, now);
    facts.worker_gone_for = std::chrono::duration_cast<std::chrono::milliseconds>(now - since);
  }
}

ProcessEvidence EvidenceGatherer::check(const std::string& identity) {
  if (identity.empty()) return ProcessEvidence::kNone;
  const auto known = checked_.find(identity);
  if (known != checked_.end()) return known->second;
  if (checked_.size() >= kChecksKept) checked_.clear();
  return checked_.emplace(identity, check_process(identity)).first->second;
}

// Put together as text: a pass may make half a million of them.
JsonText evidence_json(const RowFacts& facts, const RunningRow& row) {
  const auto seconds = [](std::chrono::milliseconds age) {
    return std::chrono::duration_cast<std::chrono::seconds>(age).count();
  };
  JsonWriter out;
  out.text("status", to_string(facts.status));
  out.number("silence_seconds", seconds(facts.silence));
  if (facts.expires_in) out.number("expires_in", facts.expires_in->count());
  if (!row.run.recorder.empty()) out.text("recorder", row.run.recorder);
  if (row.recorder_seen_ago && facts.other_recorder) {
    out.number("recorder_seen_seconds_ago", seconds(*row.recorder_seen_ago));
  }
  if (!row.run.worker_process.empty()) {
    out.text("worker_process", row.run.worker_process);
    out.text("worker", to_text(facts.worker));
    if (facts.worker_gone_for) out.number("worker_gone_seconds", seconds(*facts.worker_gone_for));
  }
  if (!row.run.sender_process.empty()) {
    out.text("sender_process", row.run.sender_process);
    out.text("sender", to_text(facts.sender));
  }
  out.flag("connection_open", facts.connection_open);
  if (row.run.oban_job_id) out.number("oban_job_id", *row.run.oban_job_id);
  if (row.run.queue) out.text("queue", *row.run.queue);
  if (facts.job_id) out.text("job_id", *facts.job_id);
  if (facts.job && !facts.job->state.empty()) {
    out.text("job_state", facts.job->state);
    if (facts.job->attempt) out.number("job_attempt", *facts.job->attempt);
    if (facts.job->claimed_at) out.time("job_claimed_at", *facts.job->claimed_at);
  }
  if (facts.job && facts.job->kind == JobAnswer::Kind::kAbsent) out.null("job_state");
  return std::move(out).object();
}

}  // namespace run_recorder
