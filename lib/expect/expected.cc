#include "expect/expected.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"

namespace run_recorder {
namespace {

constexpr std::uint64_t kFnvOffset = 14'695'981'039'346'656'037ULL;  // FNV-1a, 64 bits
constexpr std::uint64_t kFnvPrime = 1'099'511'628'211ULL;

std::string fingerprint_of(const std::vector<ExpectationDefinition>& definitions) {
  std::uint64_t hash = kFnvOffset;
  for (const ExpectationDefinition& one : definitions) {
    for (const char c : one.name + "\n" + one.definition + "\n") {
      hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
    }
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace

std::string definition_of(const Expectation& expected) {
  return fmt::format("{} | {} | {} | {}", expected.council, expected.every.count(), expected.cron,
                     expected.cron.empty() ? "" : expected.timezone);
}

ExpectedRuns::ExpectedRuns(const ExpectPolicy& policy) : learns_(policy.learn) {
  for (const auto& [name, expectation] : policy.named) {
    auto schedule = StartSchedule::of(expectation);
    if (schedule) {
      all_.push_back({name, expectation, std::move(*schedule)});
    } else {
      log_error("an expectation cannot be judged", {{"EXPECTATION", name}, {"PROBLEM", schedule.error().message}});
    }
  }
  fingerprint_ = fingerprint_of(definitions());
}

const Expected* ExpectedRuns::find(std::string_view name) const {
  const auto found = std::ranges::find(all_, name, &Expected::name);
  return found == all_.end() ? nullptr : &*found;
}

std::vector<ExpectationDefinition> ExpectedRuns::definitions() const {
  std::vector<ExpectationDefinition> definitions;
  for (const Expected& one : all_) definitions.push_back({one.name, definition_of(one.expectation)});
  if (learns_) definitions.push_back({"", "learned"});
  return definitions;
}

std::optional<std::chrono::milliseconds> ExpectedRuns::shortest_max_duration() const {
  std::optional<std::chrono::milliseconds> shortest;
  for (const Expected& one : all_) {
    const auto allowed = one.expectation.max_duration;
    if (allowed.count() > 0 && (!shortest || allowed < *shortest)) shortest = allowed;
  }
  return shortest;
}

}  // namespace run_recorder
