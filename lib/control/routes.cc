// The routes themselves, one a line: see route.h.
#include "control/handlers.h"

namespace run_recorder {
namespace {

using Input = Route::Input;
using Served = Route::Served;
using Work = Route::Work;

constexpr Parameter kStatuses{"status", ParameterKind::kStatuses};
constexpr Parameter kCouncil{"council"};
constexpr Parameter kCouncilGlob{"council_glob"};
constexpr Parameter kLimit{"limit", ParameterKind::kNumber, 1, kLargestLimit};
constexpr Parameter kCursor{"cursor"};
constexpr Parameter kDryRun{"dry_run", ParameterKind::kFlag};

constexpr Parameter kIdPrefix{"id_prefix"};

constexpr Parameter kPage[] = {kLimit, kCursor};
constexpr Parameter kPasses[] = {kIdPrefix, kLimit, kCursor};
constexpr Parameter kRuns[] = {kStatuses,
                               kCouncil,
                               kCouncilGlob,
                               kIdPrefix,
                               {"host"},
                               {"unit"},
                               {"user"},
                               {"job"},
                               {"queue"},
                               {"oban_job_id", ParameterKind::kNumber},
                               {"pass"},
                               {"longer_than", ParameterKind::kDuration},
                               {"error"},
                               {"exit_status", ParameterKind::kNumber, 0, 255},
                               {"by", ParameterKind::kOrder},
                               {"since", ParameterKind::kTime},
                               {"until", ParameterKind::kTime},
                               {"examine", ParameterKind::kNumber, 1, kExaminedRows},
                               kLimit,
                               kCursor};
constexpr Parameter kFindings[] = {
    {"all", ParameterKind::kFlag}, {"expectation"}, {"kind", ParameterKind::kFindingKind}, kLimit, kCursor};
constexpr Parameter kPass[] = {kDryRun, {"unvouched", ParameterKind::kFlag}, {"force", ParameterKind::kFlag}};
constexpr Parameter kPrune[] = {
    kDryRun,      {"status", ParameterKind::kEndStatuses},  kCouncil,
    kCouncilGlob, {"older_than", ParameterKind::kDuration}, {"limit", ParameterKind::kNumber, 1},
    kCursor};

// clang-format off
constexpr Route kRoutes[] = {
  {"GET", "/healthz", get_health, {}, Input::kIgnored, Served::kControlAndMetrics, Work::kFromMemory},
  {"GET", "/readyz", get_readiness, {}, Input::kIgnored, Served::kControlAndMetrics, Work::kFromMemory},
  {"GET", "/metrics", get_metrics, {}, Input::kIgnored, Served::kControlAndMetrics, Work::kFromMemory},
  {"GET", "/v1/status", get_status, {}, Input::kIgnored, Served::kControl, Work::kFromMemory},
  {"GET", "/v1/runs", get_runs, kRuns},
  {"GET", "/v1/runs/{id}", get_run},
  {"GET", "/v1/runs/{id}/events", get_events, kPage},
  {"GET", "/v1/runs/{id}/chain", get_chain, kPage},
  {"GET", "/v1/runs/{id}/explain", get_explanation},
  {"GET", "/v1/reconciliations", get_reconciliations, kPasses},
  {"POST", "/v1/reconcile", post_reconcile, kPass, Input::kQueryOrBody},
  {"POST", "/v1/reconciliations/{id}/undo", post_undo, {}, Input::kIgnored},
  {"GET", "/v1/expectations", get_expectations, kPage},
  {"GET", "/v1/findings", get_findings, kFindings},
  {"GET", "/v1/export", get_export, kPage},
  {"POST", "/v1/import", post_import, {}, Input::kLines},
  {"GET", "/v1/clock", get_clock, {}, Input::kIgnored},
  {"POST", "/v1/prune", post_prune, kPrune, Input::kQueryOrBody},
  {"GET", "/v1/dead-letters", get_dead_letters, kPage},
  {"GET", "/v1/dead-letters/{id}", get_dead_letter, {}, Input::kIgnored},
  {"DELETE", "/v1/dead-letters/{id}", delete_dead_letter, {}, Input::kIgnored},
  {"POST", "/v1/dead-letters/{id}/retry", post_retry, {}, Input::kIgnored},
};
// clang-format on

}  // namespace

std::span<const Route> routes() {
  return kRoutes;
}

}  // namespace run_recorder
