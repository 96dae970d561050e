// Findings and expectations as rows, in the words that both databases share. For the adapters' files; pure.
#pragma once

#include <string>
#include <string_view>

#include "store/finding.h"
#include "store/store.h"

namespace run_recorder {

// name, definition, since
template <class Fields>
KnownExpectation read_known(Fields& fields) {
  KnownExpectation known;
  known.name = fields.text();
  known.definition = fields.text();
  known.since = fields.time().value_or(Timestamp{});
  return known;
}

// id, kind, expectation, council, run_id, due_at, allowed_ms, opened_at, ended_at, ended_by, recorder
template <class Fields>
Finding read_finding(Fields& fields) {
  Finding finding;
  finding.id = fields.integer();
  finding.kind = finding_kind_from(fields.text()).value_or(FindingKind::kMissed);
  finding.expectation = fields.text();
  finding.council = fields.text();
  finding.run_id = fields.text();
  finding.due_at = fields.time();
  if (const auto allowed = fields.optional_integer()) finding.allowed = std::chrono::milliseconds(*allowed);
  finding.opened_at = fields.time().value_or(Timestamp{});
  finding.ended_at = fields.time();
  finding.ended_by = fields.text();
  finding.recorder = fields.text();
  return finding;
}

// run_id, council, when it started
template <class Fields>
std::optional<StartedRun> read_started(Fields& fields) {
  StartedRun run{fields.text(), fields.text(), {}};
  const auto started = fields.time();
  if (!started) return std::nullopt;
  run.started_at = *started;
  return run;
}

}  // namespace run_recorder
