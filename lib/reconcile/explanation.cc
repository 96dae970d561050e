#include "reconcile/explanation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace run_recorder {
namespace {

using Json = nlohmann::ordered_json;

Json text_or_null(std::string_view text) {
  return text.empty() ? Json() : Json(text);
}

// Why no pass judges the row; empty: it does.
std::string why_left(const Run& run, const RowFacts& facts) {
  if (run.status == Status::kQueued && !facts.job_id) {
    return "the run is queued and names no job that a queue could be asked about";
  }
  if (run.status == Status::kQueued && !facts.queue_configured) {
    return "the run is queued and no queue is configured";
  }
  if (run.status != Status::kQueued && run.status != Status::kRunning) {
    return fmt::format("the run is {}: reconciliation examines running and queued rows only", to_string(run.status));
  }
  return {};
}

Json rules_json(const Verdict& verdict) {
  Json rules = Json::array();
  for (const RuleAnswer& rule : verdict.rules) {
    Json answer;
    answer["rule"] = rule.rule;
    answer["name"] = rule.name;
    answer["verdict"] = rule.verdict ? Json(to_string(*rule.verdict)) : Json();
    answer["reason"] = text_or_null(rule.reason);
    answer["detail"] = rule.detail;
    rules.push_back(std::move(answer));
  }
  return rules;
}

}  // namespace

JsonText explanation(const RunningRow& row, const RowFacts& facts, const Verdict& verdict) {
  const Run& run = row.run;
  Json out;
  out["run_id"] = run.run_id;
  out["council"] = run.council;
  out["status"] = to_string(run.status);
  out["attempt"] = run.attempt;
  out["host"] = run.host ? Json(*run.host) : Json();
  out["oban_job_id"] = run.oban_job_id ? Json(*run.oban_job_id) : Json();
  out["queue"] = run.queue ? Json(*run.queue) : Json();
  out["job_id"] = facts.job_id ? Json(*facts.job_id) : Json();
  out["age_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(row.silence).count();
  const std::string left = why_left(run, facts);
  out["verdict"] = left.empty() ? Json(to_string(verdict.kind)) : Json();
  out["reason"] = left.empty() ? text_or_null(verdict.reason) : Json();
  out["message"] = left.empty() ? verdict.message : left;
  out["rules"] = rules_json(verdict);
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace run_recorder
