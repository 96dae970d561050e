// What the routes call, by the file of its subject. Each is called from several threads, with arguments that are
// checked; what asks the database goes through Backend::read().
#pragma once

#include "control/answer.h"
#include "control/backend.h"
#include "control/route.h"

namespace run_recorder {

inline constexpr std::int64_t kDefaultLimit = 100;
inline constexpr std::int64_t kLargestLimit = 1'000;

// daemon_handlers.cc: from memory, but for the clock.
ApiAnswer get_health(Backend& backend, const Call& call);
ApiAnswer get_readiness(Backend& backend, const Call& call);
ApiAnswer get_metrics(Backend& backend, const Call& call);
ApiAnswer get_status(Backend& backend, const Call& call);
ApiAnswer get_clock(Backend& backend, const Call& call);

// run_handlers.cc
ApiAnswer get_runs(Backend& backend, const Call& call);
ApiAnswer get_run(Backend& backend, const Call& call);
ApiAnswer get_events(Backend& backend, const Call& call);
ApiAnswer get_chain(Backend& backend, const Call& call);
ApiAnswer get_explanation(Backend& backend, const Call& call);

// pass_handlers.cc
ApiAnswer get_reconciliations(Backend& backend, const Call& call);
ApiAnswer post_reconcile(Backend& backend, const Call& call);
ApiAnswer post_undo(Backend& backend, const Call& call);

// expectation_handlers.cc
ApiAnswer get_expectations(Backend& backend, const Call& call);
ApiAnswer get_findings(Backend& backend, const Call& call);

// dead_letter_handlers.cc
ApiAnswer get_dead_letters(Backend& backend, const Call& call);
ApiAnswer get_dead_letter(Backend& backend, const Call& call);
ApiAnswer post_retry(Backend& backend, const Call& call);
ApiAnswer delete_dead_letter(Backend& backend, const Call& call);

// moving_handlers.cc: what leaves the database, and what comes in from another.
ApiAnswer get_export(Backend& backend, const Call& call);
ApiAnswer post_import(Backend& backend, const Call& call);
ApiAnswer post_prune(Backend& backend, const Call& call);

// The page that a list's limit and cursor ask for.
struct Paging {
  std::size_t limit = 0;
  std::string cursor;
};
Paging paging_of(const Arguments& arguments, std::int64_t default_limit = kDefaultLimit);

}  // namespace run_recorder
