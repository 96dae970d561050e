// What moves to another database, and what goes for good: see handlers.h.
#include "base/account.h"
#include "control/handlers.h"
#include "control/move.h"

namespace run_recorder {

ApiAnswer get_export(Backend& backend, const Call& call) {
  const Paging paging = paging_of(call.arguments);
  // As the last pass counted them: counting now could take longer than a request may.
  std::optional<std::uint64_t> runs_about;
  if (const auto counts = backend.reconciler().status().runs_by_status) {
    runs_about = 0;
    for (const auto& [status, count] : *counts) *runs_about += count;
  }
  return backend.read(call.received,
                      [&](Store& store) { return export_page(store, paging.limit, paging.cursor, runs_about); });
}

ApiAnswer post_import(Backend& backend, const Call& call) {
  return backend.read(call.received, [&](Store& store) -> Result<JsonText> {
    const ImportReport report = import_lines(store, call.body);
    // What was taken before the database went away is told; the rest can be sent again.
    if (report.stopped_by && report.lines.empty()) return *report.stopped_by;
    return report.to_json();
  });
}

ApiAnswer post_prune(Backend& backend, const Call& call) {
  const Arguments& arguments = call.arguments;
  PruneRequest prune;
  prune.dry_run = arguments.flag("dry_run");
  prune.statuses = arguments.get<std::vector<Status>>("status").value_or(std::vector<Status>());
  prune.council = arguments.get<std::string>("council");
  prune.council_glob = arguments.get<std::string>("council_glob");
  prune.older_than = arguments.get<std::chrono::milliseconds>("older_than");
  prune.limit = static_cast<std::size_t>(arguments.get<std::int64_t>("limit").value_or(0));
  prune.cursor = arguments.get<std::string>("cursor").value_or("");
  prune.asked_by = call.user ? user_name(*call.user) : "unknown";
  return backend.read(call.received, [&](Store& store) -> Result<JsonText> {
    const auto report = backend.pruner().prune(store, prune);
    if (!report) return report.error();
    return report->to_json();
  });
}

}  // namespace run_recorder
