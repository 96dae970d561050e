// What a pass is to do: why it comes, which rows it judges, and what whoever asked for it wants. Values, pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace run_recorder {

enum class PassTrigger { kBoot, kInterval, kProcessEnd, kRequest };
// As reports and the column have it: boot, interval, process_end, request.
std::string_view to_string(PassTrigger trigger);

struct PassRequest {
  bool dry_run = false;
  bool unvouched = false;
  bool force = false;
};

struct Plan {
  PassTrigger trigger = PassTrigger::kRequest;
  PassRequest request = {};
  // All rows older than the grace, or only those whose last event lies within this, or only the named ones.
  std::optional<EventWindow> within = {};
  bool only_named = false;
  std::vector<std::string> run_ids = {};
};

// The second boot pass, over what the first deferred: the rows that were too young when it began, and those that had
// to wait for another reason, by name; deferred empty: these were too many, and all rows from before it are judged.
Plan second_boot_plan(Timestamp boot_started, std::chrono::milliseconds grace,
                      std::optional<std::vector<std::string>> deferred);

}  // namespace run_recorder
