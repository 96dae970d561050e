#include "recorder/evidence.h"

#include <nlohmann/json.hpp>

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
  std::vector<std::int64_t> job_ids;
  all.reserve(rows.size());
  for (const RunningRow& row : rows) {
    all.push_back(facts_of(row));
    const RowFacts& facts = all.back();
    const bool foreign = facts.other_recorder && facts.other_recorder_seen;
    if (queue_ && facts.oban_job_id && !foreign) job_ids.push_back(*facts.oban_job_id);
  }
  if (job_ids.empty()) return all;
  auto jobs = queue_->look_up(job_ids);
  for (RowFacts& facts : all) {
    if (!facts.oban_job_id) continue;
    const auto job = jobs.find(*facts.oban_job_id);
    if (job != jobs.end()) facts.job = job->second;
  }
  return all;
}

RowFacts EvidenceGatherer::facts_of(const RunningRow& row) {
  const Run& run = row.run;
  RowFacts facts;
  facts.recorder = run.recorder;
  facts.other_recorder = !run.recorder.empty() && run.recorder != options_.recorder;
  if (facts.other_recorder) {
    const auto recent = [&](const std::optional<std::chrono::milliseconds>& ago) {
      return ago && *ago < options_.recorder_timeout;
    };
    facts.other_recorder_seen = recent(row.recorder_seen_ago) || recent(options_.could_be_seen_for);
  } else {
    facts.worker = look(run.worker_process);
    facts.sender = look(run.sender_process);
    if (!run.worker_process.empty()) facts.worker_text = describe(run.worker_process, facts.worker);
    if (!run.sender_process.empty()) facts.sender_text = describe(run.sender_process, facts.sender);
    facts.connection_open = !run.connection.empty() && options_.connection_open(run.connection);
  }
  facts.dead_letter = row.dead_letter;
  facts.queue_configured = queue_ != nullptr;
  facts.oban_job_id = run.oban_job_id;
  if (run.attempt_given) facts.attempt = run.attempt;
  facts.silence = row.silence;
  return facts;
}

ProcessEvidence EvidenceGatherer::look(const std::string& identity) {
  if (identity.empty()) return ProcessEvidence::kNone;
  const auto known = looks_.find(identity);
  if (known != looks_.end()) return known->second;
  if (looks_.size() >= kLooksKept) looks_.clear();
  return looks_.emplace(identity, look_at(identity)).first->second;
}

JsonText evidence_json(const RowFacts& facts, const RunningRow& row) {
  nlohmann::ordered_json evidence;
  evidence["silence_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(facts.silence).count();
  if (!row.run.recorder.empty()) evidence["recorder"] = row.run.recorder;
  if (row.recorder_seen_ago && facts.other_recorder) {
    evidence["recorder_seen_seconds_ago"] =
        std::chrono::duration_cast<std::chrono::seconds>(*row.recorder_seen_ago).count();
  }
  if (!row.run.worker_process.empty()) {
    evidence["worker_process"] = row.run.worker_process;
    evidence["worker"] = to_text(facts.worker);
  }
  if (!row.run.sender_process.empty()) {
    evidence["sender_process"] = row.run.sender_process;
    evidence["sender"] = to_text(facts.sender);
  }
  evidence["connection_open"] = facts.connection_open;
  if (facts.oban_job_id) evidence["oban_job_id"] = *facts.oban_job_id;
  if (facts.job && facts.job->kind == JobAnswer::Kind::kFound) {
    evidence["job_state"] = facts.job->state;
    evidence["job_attempt"] = facts.job->attempt;
  }
  if (facts.job && facts.job->kind == JobAnswer::Kind::kAbsent) evidence["job_state"] = nullptr;
  return evidence.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace run_recorder
