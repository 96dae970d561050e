#include "run/verdict.h"

#include <fmt/format.h>

namespace run_recorder {
namespace {

RuleAnswer silent(int rule, std::string_view name, std::string detail) {
  return RuleAnswer{rule, name, std::nullopt, {}, std::move(detail)};
}

RuleAnswer says(int rule, std::string_view name, VerdictKind kind, std::string_view reason, std::string detail) {
  return RuleAnswer{rule, name, kind, reason, std::move(detail)};
}

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{} s", std::chrono::duration_cast<std::chrono::seconds>(time).count());
}

std::string or_else(const std::string& text, std::string_view other) {
  return text.empty() ? std::string(other) : text;
}

// Rule 3: what the job's row says of this execution.
RuleAnswer ask_queue(const RowFacts& facts, const Policy& policy) {
  constexpr int kRule = 3;
  constexpr std::string_view kName = "queue";
  if (!facts.job_id) return silent(kRule, kName, "the run names no job");
  if (!facts.queue_configured) return silent(kRule, kName, "no queue is configured");
  const JobAnswer job = facts.job.value_or(JobAnswer{});
  const auto stuck = [&](std::string_view reason) {
    return says(kRule, kName, VerdictKind::kStuck, reason, job.detail);
  };
  // The order is the contract's: only a living execution and a superseded one outweigh a change just made.
  const bool just_changed = job.changed_ago && *job.changed_ago < policy.grace;
  const auto unless_changed = [&](RuleAnswer answer) {
    if (!just_changed) return answer;
    return says(kRule, kName, VerdictKind::kDeferred, {},
                fmt::format("job {} is {} since {}, less than the grace", *facts.job_id, job.state,
                            seconds(*job.changed_ago)));
  };
  switch (job.kind) {
    case JobAnswer::Kind::kCannotTell:
      return says(kRule, kName, VerdictKind::kUnknown, "queue_unavailable",
                  fmt::format("job {} cannot be looked up: {}", *facts.job_id, or_else(job.detail, "no answer")));
    case JobAnswer::Kind::kAbsent:
      return stuck("queue_row_absent");
    case JobAnswer::Kind::kWorking:
      return says(kRule, kName, VerdictKind::kAlive, {}, job.detail);
    case JobAnswer::Kind::kOtherExecution:
      return stuck("attempt_superseded");
    case JobAnswer::Kind::kFinished:
      return unless_changed(says(kRule, kName, VerdictKind::kStuck, "terminal_event_lost",
                                 job.detail + ", but no event ended this run"));
    case JobAnswer::Kind::kHolderGone:
      return unless_changed(stuck("queue_heartbeat_expired"));
    case JobAnswer::Kind::kNotExecuting:
      return unless_changed(stuck("queue_not_executing"));
  }
  return silent(kRule, kName, "no answer");
}

RuleAnswer ask_recorder(const RowFacts& facts) {
  constexpr std::string_view kName = "recorder";
  if (!facts.other_recorder) {
    return silent(1, kName, facts.recorder.empty() ? "no recorder wrote it" : "this recorder wrote it");
  }
  if (facts.other_recorder_seen) {
    return says(1, kName, VerdictKind::kForeign, "foreign",
                fmt::format("recorder {} wrote it and is alive", facts.recorder));
  }
  const std::string gone =
      fmt::format("recorder {} wrote it and has not been seen for recorder_timeout", facts.recorder);
  if (!facts.job_id) return says(1, kName, VerdictKind::kStuck, "recorder_gone", gone);
  if (!facts.queue_configured) {
    return says(1, kName, VerdictKind::kUnknown, "no_queue",
                fmt::format("{}; it names job {}, but no queue is configured", gone, *facts.job_id));
  }
  return silent(1, kName, gone + "; its job decides");
}

RuleAnswer ask_dead_letters(const RowFacts& facts) {
  if (!facts.dead_letter) return silent(0, "dead_letter", "no event of this run is a dead letter");
  return says(0, "dead_letter", VerdictKind::kUnknown, "dead_letter",
              "an event of this run is a dead letter: retry or remove it first");
}

RuleAnswer ask_worker(const RowFacts& facts) {
  constexpr std::string_view kName = "worker_process";
  if (facts.other_recorder) return silent(2, kName, "another recorder's: not asked");
  switch (facts.worker) {
    case ProcessEvidence::kGone:
      return says(2, kName, VerdictKind::kStuck, "process_gone",
                  or_else(facts.worker_text, "the worker process is gone"));
    case ProcessEvidence::kAlive:
      return silent(2, kName, or_else(facts.worker_text, "the worker process is alive"));
    case ProcessEvidence::kNone:
      break;
  }
  return silent(2, kName, or_else(facts.worker_text, "no worker process is known"));
}

RuleAnswer ask_sender(const RowFacts& facts) {
  constexpr std::string_view kName = "sender";
  if (facts.other_recorder) return silent(4, kName, "another recorder's: not asked");
  if (facts.worker == ProcessEvidence::kAlive) {
    return says(4, kName, VerdictKind::kAlive, {}, or_else(facts.worker_text, "its worker process is alive"));
  }
  if (facts.sender == ProcessEvidence::kAlive) {
    return says(4, kName, VerdictKind::kAlive, {}, or_else(facts.sender_text, "its latest sender is alive"));
  }
  if (facts.connection_open)
    return says(4, kName, VerdictKind::kAlive, {}, "the connection of its latest event is open");
  return silent(4, kName, or_else(facts.sender_text, "neither worker, sender nor connection is known to live"));
}

RuleAnswer ask_nobody(const RowFacts& facts, const Policy& policy) {
  constexpr std::string_view kName = "nobody";
  if (facts.other_recorder) return silent(5, kName, "another recorder's: not asked");
  if (policy.vouching_required) {
    return says(5, kName, VerdictKind::kStuck, "no_live_worker",
                "nobody vouches for it: no live worker, sender or job");
  }
  if (facts.silence > policy.silent_after) {
    return says(5, kName, VerdictKind::kStuck, "silent",
                fmt::format("no event for {}, longer than silent_after", seconds(facts.silence)));
  }
  return says(5, kName, VerdictKind::kUnknown, "no_evidence",
              "nobody vouches for it, and nothing shows that its worker is gone");
}

}  // namespace

std::string_view to_string(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kAlive:
      return "alive";
    case VerdictKind::kStuck:
      return "stuck";
    case VerdictKind::kUnknown:
      return "unknown";
    case VerdictKind::kForeign:
      return "foreign";
    case VerdictKind::kDeferred:
      return "deferred";
    case VerdictKind::kRaced:
      return "raced";
  }
  return "";
}

Verdict judge(const RowFacts& facts, const Policy& policy) {
  Verdict verdict;
  verdict.rules = {ask_recorder(facts),      ask_dead_letters(facts), ask_worker(facts),
                   ask_queue(facts, policy), ask_sender(facts),       ask_nobody(facts, policy)};
  // What is silent about everything cannot happen: rule 1 or 3 decides rows of other recorders, rule 5 all others.
  const RuleAnswer* decisive = nullptr;
  for (const RuleAnswer& rule : verdict.rules) {
    if (!rule.verdict) continue;
    // A missing event outweighs every finding except that another recorder looks after the row.
    const bool foreign = rule.verdict == VerdictKind::kForeign;
    if (facts.dead_letter && !foreign && rule.rule != 0) continue;
    decisive = &rule;
    break;
  }
  if (!decisive) return verdict;
  verdict.kind = *decisive->verdict;
  verdict.reason = decisive->reason;
  verdict.message = decisive->detail;
  return verdict;
}

}  // namespace run_recorder
