#include "reconcile/plan.h"

#include <utility>

namespace run_recorder {

std::string_view to_string(PassTrigger trigger) {
  switch (trigger) {
    case PassTrigger::kBoot:
      return "boot";
    case PassTrigger::kInterval:
      return "interval";
    case PassTrigger::kProcessEnd:
      return "process_end";
    case PassTrigger::kRequest:
      return "request";
  }
  return "";
}

Plan second_boot_plan(Timestamp boot_started, std::chrono::milliseconds grace,
                      std::optional<std::vector<std::string>> deferred) {
  Plan plan{.trigger = PassTrigger::kBoot, .within = EventWindow{.before = boot_started}};
  if (!deferred) return plan;
  plan.within->not_before = boot_started - grace;
  plan.run_ids = std::move(*deferred);
  return plan;
}

}  // namespace run_recorder
