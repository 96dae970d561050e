// Runs, their history and their chains: see handlers.h.
#include <fmt/format.h>

#include "control/handlers.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

Error no_run(std::string_view run_id) {
  return Error{ErrorKind::kNotFound, fmt::format("there is no run {}", run_id)};
}

RunFilter filter_of(const Arguments& arguments) {
  RunFilter filter;
  filter.statuses = arguments.get<std::vector<Status>>("status").value_or(std::vector<Status>());
  filter.council = arguments.get<std::string>("council");
  filter.council_glob = arguments.get<std::string>("council_glob");
  filter.id_prefix = arguments.get<std::string>("id_prefix");
  filter.host = arguments.get<std::string>("host");
  filter.unit = arguments.get<std::string>("unit");
  filter.os_user = arguments.get<std::string>("user");
  filter.oban_job_id = arguments.get<std::int64_t>("oban_job_id");
  filter.job = arguments.get<std::string>("job");
  filter.queue = arguments.get<std::string>("queue");
  filter.pass = arguments.get<std::string>("pass");
  filter.longer_than = arguments.get<std::chrono::milliseconds>("longer_than");
  filter.error_text = arguments.get<std::string>("error");
  filter.exit_status = arguments.get<std::int64_t>("exit_status");
  filter.by = arguments.get<RunOrder>("by").value_or(RunOrder::kRecorded);
  filter.since = arguments.get<Timestamp>("since");
  filter.until = arguments.get<Timestamp>("until");
  if (const auto examine = arguments.get<std::int64_t>("examine"))
    filter.examine = static_cast<std::size_t>(*examine);
  Paging paging = paging_of(arguments);
  filter.limit = paging.limit;
  filter.cursor = std::move(paging.cursor);
  return filter;
}

Result<JsonText> list_runs(Store& store, const RunFilter& filter) {
  const auto page = store.list_runs(filter);
  if (!page) return page.error();
  JsonList list("runs");
  for (const Run& run : page.value().runs) list.add(run_json(run, false));
  JsonText answer = list.close(page.value().next);
  if (const auto until = page.value().examined_until) {
    answer.insert(answer.size() - 1, fmt::format(R"(,"examined_until":"{}")", format_rfc3339(*until)));
  }
  return answer;
}

Result<JsonText> show_run(Store& store, const std::string& run_id) {
  const auto run = store.find_run(run_id);
  if (!run) return run.error();
  if (!run.value()) return no_run(run_id);
  return run_json(*run.value(), true);
}

Result<JsonText> list_events(Store& store, const std::string& run_id, const Paging& paging) {
  const auto page = store.list_events(run_id, paging.limit, paging.cursor);
  if (!page) return page.error();
  if (page.value().events.empty() && paging.cursor.empty()) {
    const auto run = store.find_run(run_id);
    if (!run) return run.error();
    if (!run.value()) return no_run(run_id);
  }
  JsonList list("events");
  for (const StoredEvent& event : page.value().events) list.add(event_json(event));
  return list.close(page.value().next);
}

Result<JsonText> show_chain(Store& store, const std::string& run_id, const Paging& paging) {
  const auto page = store.chain(run_id, paging.limit, paging.cursor);
  if (!page) return page.error();
  if (page.value().runs.empty() && paging.cursor.empty()) return no_run(run_id);
  JsonList list("runs");
  for (const Run& run : page.value().runs) list.add(run_json(run, false));
  JsonText answer = list.close(page.value().next);
  answer.insert(answer.size() - 1, page.value().truncated ? R"(,"truncated":true)" : R"(,"truncated":false)");
  return answer;
}

}  // namespace

Paging paging_of(const Arguments& arguments, std::int64_t default_limit) {
  return {static_cast<std::size_t>(arguments.get<std::int64_t>("limit").value_or(default_limit)),
          arguments.get<std::string>("cursor").value_or("")};
}

ApiAnswer get_runs(Backend& backend, const Call& call) {
  const RunFilter filter = filter_of(call.arguments);
  return backend.read(call.received, [&](Store& store) { return list_runs(store, filter); });
}

ApiAnswer get_run(Backend& backend, const Call& call) {
  return backend.read(call.received, [&](Store& store) { return show_run(store, call.ids[0]); });
}

ApiAnswer get_events(Backend& backend, const Call& call) {
  const Paging paging = paging_of(call.arguments);
  return backend.read(call.received, [&](Store& store) { return list_events(store, call.ids[0], paging); });
}

ApiAnswer get_chain(Backend& backend, const Call& call) {
  const Paging paging = paging_of(call.arguments, kLargestLimit);
  return backend.read(call.received, [&](Store& store) { return show_chain(store, call.ids[0], paging); });
}

ApiAnswer get_explanation(Backend& backend, const Call& call) {
  return backend.read(call.received, [&](Store& store) { return backend.reconciler().explain(store, call.ids[0]); });
}

}  // namespace run_recorder
