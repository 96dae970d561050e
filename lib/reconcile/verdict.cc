#include "reconcile/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

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

bool may_still_tell(const RowFacts& facts) {
  return facts.sender == ProcessEvidence::kAlive || facts.connection_open;
}

// How long ago the last event could have come: what was said while the daemon could not hear does not count against
// the run.
std::chrono::milliseconds silence_while_listening(const RowFacts& facts, const Rules& rules) {
  return std::min(facts.silence, rules.listening_for);
}

bool has_expired(const RowFacts& facts, const Rules& rules) {
  return facts.expires_in && silence_while_listening(facts, rules) > *facts.expires_in;
}

// The report of a job that finished well is lost once its worker is gone: the work is done.
bool is_done_and_gone(const RowFacts& facts) {
  return !facts.other_recorder && facts.worker == ProcessEvidence::kGone && facts.job &&
         facts.job->kind == JobAnswer::Kind::kFinished;
}

// Rule 3 where this execution is being worked on, by the queue's word.
RuleAnswer ask_working(const RowFacts& facts, const Rules& rules) {
  const bool unexpired = facts.expires_in && !has_expired(facts, rules);
  const bool alone = !facts.worker_named && facts.sender == ProcessEvidence::kGone && !facts.connection_open &&
                     !facts.other_recorder && !unexpired;
  if (!alone) return says(3, "queue", VerdictKind::kAlive, {}, facts.job->detail);
  const std::string detail = fmt::format("{} according to the queue only: {}", facts.job->detail,
                                         or_else(facts.sender_text, "its latest sender is gone"));
  if (facts.silence > rules.policy.silent_after) {
    return says(
        3, "queue", VerdictKind::kStuck, "silent",
        fmt::format("{}, and no event came for {}, longer than silent_after", detail, seconds(facts.silence)));
  }
  return says(3, "queue", VerdictKind::kUnknown, "sender_gone", detail);
}

// Rule 3: what the job's row says of this execution.
RuleAnswer ask_queue(const RowFacts& facts, const Rules& rules) {
  constexpr int kRule = 3;
  constexpr std::string_view kName = "queue";
  if (!facts.job_id) return silent(kRule, kName, "the run names no job");
  if (!facts.queue_configured) return silent(kRule, kName, "no queue is configured");
  const JobAnswer job = facts.job.value_or(JobAnswer{});
  const auto stuck = [&](std::string_view reason, std::string detail) {
    return says(kRule, kName, VerdictKind::kStuck, reason, std::move(detail));
  };
  const auto alive = [&] { return says(kRule, kName, VerdictKind::kAlive, {}, job.detail); };
  // The order is the contract's: only a living execution and a superseded one outweigh a change just made.
  const bool just_changed = job.changed_ago && *job.changed_ago < rules.policy.grace;
  const auto unless_changed = [&](RuleAnswer answer) {
    if (!just_changed) return answer;
    return says(kRule, kName, VerdictKind::kDeferred, {},
                fmt::format("job {} has been {} for {}, less than the grace", *facts.job_id, job.state,
                            seconds(*job.changed_ago)));
  };
  const bool queued = facts.status == Status::kQueued;
  switch (job.kind) {
    case JobAnswer::Kind::kCannotTell:
      return says(kRule, kName, VerdictKind::kUnknown, "queue_unavailable",
                  fmt::format("job {} cannot be looked up: {}", *facts.job_id, or_else(job.detail, "no answer")));
    case JobAnswer::Kind::kAbsent:
      return stuck("queue_row_absent", or_else(job.detail, fmt::format("job {} is not in the queue", *facts.job_id)));
    case JobAnswer::Kind::kWorking:
      return queued ? alive() : ask_working(facts, rules);
    case JobAnswer::Kind::kOtherExecution:
      return queued ? alive() : stuck("attempt_superseded", job.detail);
    case JobAnswer::Kind::kFinished: {
      RuleAnswer lost = stuck("terminal_event_lost", job.detail + ", but no event ended this run");
      return is_done_and_gone(facts) ? lost : unless_changed(std::move(lost));
    }
    case JobAnswer::Kind::kHolderGone:
      return queued ? alive() : unless_changed(stuck("queue_heartbeat_expired", job.detail));
    case JobAnswer::Kind::kNotExecuting:
      if (queued && !job.ended) return alive();
      return unless_changed(stuck("queue_not_executing", job.detail));
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

RuleAnswer ask_worker(const RowFacts& facts, const Rules& rules) {
  constexpr std::string_view kName = "worker_process";
  if (facts.other_recorder) return silent(2, kName, "another recorder's: not asked");
  if (facts.status == Status::kQueued) return silent(2, kName, "a queued run: not asked");
  switch (facts.worker) {
    case ProcessEvidence::kGone: {
      std::string gone = or_else(facts.worker_text, "the worker process is gone");
      if (facts.worker_gone_for && *facts.worker_gone_for < rules.policy.grace && may_still_tell(facts)) {
        return says(2, kName, VerdictKind::kDeferred, {},
                    fmt::format("{}, first seen {} ago, less than the grace, and its sender may still report", gone,
                                seconds(*facts.worker_gone_for)));
      }
      if (is_done_and_gone(facts)) return silent(2, kName, gone + "; its job finished well");
      return says(2, kName, VerdictKind::kStuck, "process_gone", std::move(gone));
    }
    case ProcessEvidence::kAlive:
      return silent(2, kName, or_else(facts.worker_text, "the worker process is alive"));
    case ProcessEvidence::kNone:
      break;
  }
  return silent(2, kName, or_else(facts.worker_text, "no worker process is known"));
}

RuleAnswer ask_sender(const RowFacts& facts, const Rules& rules) {
  static constexpr std::string_view kName = "sender";
  const auto alive = [](std::string detail) { return says(4, kName, VerdictKind::kAlive, {}, std::move(detail)); };
  if (facts.other_recorder) return silent(4, kName, "another recorder's: not asked");
  if (facts.status == Status::kQueued) return silent(4, kName, "a queued run: not asked");
  if (facts.worker == ProcessEvidence::kAlive)
    return alive(or_else(facts.worker_text, "its worker process is alive"));
  // A sender that promised events vouches by these alone: it may live on without the work.
  if (has_expired(facts, rules)) {
    return says(4, kName, VerdictKind::kStuck, "heartbeat_expired",
                fmt::format("no event for {}, expected within {}", seconds(silence_while_listening(facts, rules)),
                            seconds(*facts.expires_in)));
  }
  if (facts.expires_in)
    return alive(fmt::format("its last heartbeat is less than {} old", seconds(*facts.expires_in)));
  if (facts.sender == ProcessEvidence::kAlive) return alive(or_else(facts.sender_text, "its latest sender is alive"));
  if (facts.connection_open) return alive("the connection of its latest event is open");
  return silent(4, kName, or_else(facts.sender_text, "no live worker, sender or connection is known"));
}

RuleAnswer ask_nobody(const RowFacts& facts, const Rules& rules) {
  constexpr std::string_view kName = "nobody";
  if (facts.other_recorder) return silent(5, kName, "another recorder's: not asked");
  // Its job waits, and nobody is expected to vouch for it meanwhile.
  if (facts.status == Status::kQueued) return says(5, kName, VerdictKind::kAlive, {}, "waiting to be started");
  if (rules.unvouched || (rules.boot && !facts.received_here)) {
    return says(5, kName, VerdictKind::kStuck, "no_live_worker", "no live worker, sender or job");
  }
  if (facts.silence > rules.policy.silent_after) {
    return says(5, kName, VerdictKind::kStuck, "silent",
                fmt::format("no event for {}, longer than silent_after", seconds(facts.silence)));
  }
  return says(5, kName, VerdictKind::kUnknown, "no_evidence",
              "no live worker, sender or job is known, nor that its worker is gone");
}

constexpr std::array<RuleAnswer (*)(const RowFacts&, const Rules&), 6> kInOrder{
    [](const RowFacts& facts, const Rules&) { return ask_recorder(facts); },
    [](const RowFacts& facts, const Rules&) { return ask_dead_letters(facts); },
    ask_worker,
    ask_queue,
    ask_sender,
    ask_nobody};

// What would be stuck, but somebody may still have to say something.
std::string why_deferred(const RowFacts& facts, const Rules& rules) {
  if (rules.listening_for < rules.policy.grace && !nobody_can_report(facts)) {
    return fmt::format("this daemon has accepted events for {}, less than the grace", seconds(rules.listening_for));
  }
  return {};
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

bool nobody_can_report(const RowFacts& facts) {
  const bool worker_gone = !facts.worker_named || facts.worker == ProcessEvidence::kGone;
  return worker_gone && facts.sender == ProcessEvidence::kGone && !facts.connection_open;
}

// One rule always decides: rule 1 or 3 rows of other recorders, rule 5 all others.
Verdict judge(const RowFacts& facts, const Rules& rules, AskedRules asked) {
  const bool all = asked == AskedRules::kAll;
  Verdict verdict;
  bool decided = false;
  if (facts.too_young) {
    verdict.kind = VerdictKind::kDeferred;
    verdict.message = fmt::format("its last event was applied {} ago, less than the grace", seconds(facts.silence));
    decided = true;
  }
  for (const auto ask : kInOrder) {
    if (decided && !all) break;
    RuleAnswer rule = ask(facts, rules);
    // A missing event outweighs every finding except that another recorder looks after the row.
    const bool outweighed = facts.dead_letter && rule.verdict != VerdictKind::kForeign && rule.rule != 0;
    if (!decided && rule.verdict && !outweighed) {
      verdict.kind = *rule.verdict;
      verdict.reason = rule.reason;
      verdict.message = rule.detail;
      decided = true;
    }
    if (all) verdict.rules.push_back(std::move(rule));
  }
  assert(decided);
  if (verdict.kind != VerdictKind::kStuck) return verdict;
  if (const std::string why = why_deferred(facts, rules); !why.empty()) {
    verdict.kind = VerdictKind::kDeferred;
    verdict.reason = {};
    verdict.message += "; " + why;
  }
  return verdict;
}

}  // namespace run_recorder
