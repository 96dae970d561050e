#include "run/finding.h"

#include <fmt/format.h>

#include <cassert>
#include <string>

namespace run_recorder {

BulkTransition stuck_transition() {
  return {.status = Status::kStuck,
          .outcome = Write::kGiven,
          .finalized_at = Write::kNow,
          .last_event_at = Write::kKeep,
          .seq_step = 1,
          .type = kStuckEvent,
          .effect = Effect::kApplied};
}

// Nothing is left of the finding, and the grace begins anew.
UndoTransition undo_transition(Status status, std::string_view pass_id) {
  assert(status == Status::kQueued || status == Status::kRunning);
  return {{.status = status,
           .outcome = Write::kClear,
           .finalized_at = Write::kClear,
           .last_event_at = Write::kNow,
           .seq_step = 1,
           .type = kRevivedEvent,
           .effect = Effect::kRevived},
          revived_payload(status, "undo", pass_id)};
}

JsonText stuck_error(const StuckFinding& finding) {
  const std::string pass = finding.pass_id ? ",\"pass_id\":" + json_string(*finding.pass_id) : std::string();
  return fmt::format("{{\"kind\":\"stuck\",\"reason\":{},\"message\":{}{},\"evidence\":{}}}",
                     json_string(finding.reason), json_string(finding.message), pass, finding.evidence);
}

JsonText revived_payload(Status to, std::string_view by, std::optional<std::string_view> pass_id) {
  return fmt::format("{{\"from\":\"stuck\",\"to\":\"{}\",\"by\":{},\"pass_id\":{}}}", to_string(to), json_string(by),
                     pass_id ? json_string(*pass_id) : "null");
}

}  // namespace run_recorder
