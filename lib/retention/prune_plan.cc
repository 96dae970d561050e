#include "retention/prune_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/time.h"
#include "retention/retention.h"
#include "store/text_match.h"

namespace run_recorder {

JsonText PruneReport::to_json() const {
  return fmt::format(
      "{{\"dry_run\":{},\"examined\":{},\"runs\":{},\"events\":{},\"kept\":{},\"nothing_due\":{},\"next\":{}}}",
      dry_run, examined, runs, events, kept, nothing_due, next.empty() ? "null" : json_string(next));
}

std::string rule_in_words(const PruneRequest& request, const RetentionPolicy& policy) {
  std::string words;
  const auto say = [&words](std::string_view name, std::string_view value) {
    words += fmt::format("{}{}={}", words.empty() ? "" : " ", name, value);
  };
  if (request.older_than) {
    say("older_than", format_duration(*request.older_than));
  } else {
    say("keep", format_duration(policy.keep));
    const std::pair<std::string_view, std::optional<std::chrono::milliseconds>> times[] = {
        {"completed", policy.completed},
        {"failed", policy.failed},
        {"cancelled", policy.cancelled},
        {"stuck", policy.stuck}};
    for (const auto& [name, time] : times) {
      if (time) say(name, format_duration(*time));
    }
    if (!policy.councils.empty()) say("councils", std::to_string(policy.councils.size()));
  }
  std::string statuses;
  for (const Status status : request.statuses) {
    statuses += fmt::format("{}{}", statuses.empty() ? "" : ",", to_string(status));
  }
  if (!statuses.empty()) say("status", statuses);
  if (request.council) say("council", *request.council);
  if (request.council_glob) say("council_glob", *request.council_glob);
  return words;
}

PrunePlan::PrunePlan(const PruneRequest& request, const RetentionPolicy& policy)
    : request_(request), policy_(request.older_than ? RetentionPolicy{.keep = *request.older_than} : policy) {
  report_.dry_run = request.dry_run;
  report_.next = request.cursor;
}

std::optional<std::chrono::milliseconds> PrunePlan::shortest() const {
  return shortest_retention(policy_);
}

bool PrunePlan::is_due(const AgedRow& row) const {
  const bool status = request_.statuses.empty() || std::ranges::count(request_.statuses, row.status) > 0;
  const bool named = (!request_.council || *request_.council == row.council) &&
                     (!request_.council_glob || fits_pattern(*request_.council_glob, row.council));
  return status && named && is_expired(policy_, row.status, row.council, row.age);
}

bool PrunePlan::examine(const AgedRow& row) {
  ++report_.examined;
  if (!is_due(row)) return false;
  if (const auto verdict = judged_.find(row.run_id); verdict != judged_.end()) {
    count(row, verdict->second);
    return false;
  }
  if (row.linked) return true;
  count(row, !row.dead_letter);
  if (!row.dead_letter) add({row});
  return false;
}

void PrunePlan::examine_chain(const AgedRow& row, std::vector<AgedRow> chain) {
  const bool goes =
      !chain.empty() && chain.size() <= kLongestChain &&
      std::ranges::all_of(chain, [this](const AgedRow& member) { return is_due(member) && !member.dead_letter; });
  if (judged_.size() > kVerdictsKept) judged_.clear();
  for (const AgedRow& member : chain) judged_[member.run_id] = goes;
  count(row, goes);
  if (goes) add(std::move(chain));
}

// What is removed for good is counted by removed().
void PrunePlan::count(const AgedRow& row, bool goes) {
  if (!goes) {
    ++report_.kept;
  } else if (request_.dry_run) {
    ++report_.runs;
    report_.events += static_cast<std::uint64_t>(row.last_seq);
  }
}

void PrunePlan::add(std::vector<AgedRow> chain) {
  if (request_.dry_run) return;
  std::uint64_t events = 0;
  for (const AgedRow& row : chain) events += static_cast<std::uint64_t>(row.last_seq);
  if (groups_.empty() || groups_.back().runs + chain.size() > kRunsAtOnce ||
      groups_.back().events + events > kEventsAtOnce) {
    groups_.emplace_back();
  }
  Group& group = groups_.back();
  group.runs += chain.size();
  group.events += events;
  group.chains.push_back(std::move(chain));
}

std::optional<PrunePlan::Group> PrunePlan::take_group(bool last) {
  if (groups_.size() < (last ? 1 : 2)) return std::nullopt;
  Group group = std::move(groups_.front());
  groups_.pop_front();
  return group;
}

void PrunePlan::removed(const Group& group, const Pruned& pruned) {
  report_.runs += pruned.runs;
  report_.events += pruned.events;
  report_.kept += group.runs - pruned.runs;
}

}  // namespace run_recorder
