// Expectations and what was found of them: see handlers.h.
#include <fmt/format.h>

#include "base/json_writer.h"
#include "control/handlers.h"
#include "control/row_json.h"
#include "expect/views.h"
#include "store/paging.h"

namespace run_recorder {
namespace {

std::optional<double> in_seconds(std::optional<std::chrono::milliseconds> time) {
  if (!time || time->count() == 0) return std::nullopt;
  return static_cast<double>(time->count()) / 1'000.0;
}

void put_seconds(JsonWriter& out, std::string_view name, std::optional<std::chrono::milliseconds> time) {
  const auto seconds = in_seconds(time);
  seconds ? out.raw(name, fmt::format("{}", *seconds)) : out.null(name);
}

JsonText view_json(const ExpectationView& view) {
  JsonWriter out;
  out.text("name", view.name);
  out.text("council", view.expectation.council);
  put_seconds(out, "every_seconds", view.expectation.every);
  out.text_or_null("cron", view.expectation.cron);
  out.text_or_null("timezone", view.expectation.cron.empty() ? "" : view.expectation.timezone);
  put_seconds(out, "margin_seconds", view.expectation.margin);
  put_seconds(out, "max_duration_seconds", view.expectation.max_duration);
  out.time("since", view.since);
  std::optional<Timestamp> started;
  if (view.last_start) started = view.last_start->started_at;
  out.time("last_start", started);
  out.text_or_null("last_run_id", view.last_start ? view.last_start->run_id : "");
  out.time("next_due", view.outlook.due);
  out.text("state", state_of(view));
  out.number("overlong", view.overlong);
  out.text("why", why(view));
  return std::move(out).object();
}

JsonText finding_json(const Finding& finding) {
  JsonWriter out;
  out.number("id", finding.id);
  out.text("kind", to_string(finding.kind));
  out.text_or_null("expectation", finding.expectation);
  out.text("council", finding.council);
  out.text_or_null("run_id", finding.run_id);
  out.time("due_at", finding.due_at);
  finding.allowed ? out.number("allowed_ms", finding.allowed->count()) : out.null("allowed_ms");
  out.time("opened_at", finding.opened_at);
  out.time("ended_at", finding.ended_at);
  out.text_or_null("ended_by", finding.ended_by);
  out.text("recorder", finding.recorder);
  return std::move(out).object();
}

}  // namespace

ApiAnswer get_expectations(Backend& backend, const Call& call) {
  const Paging paging = paging_of(call.arguments);
  return backend.read(call.received, [&](Store& store) -> Result<JsonText> {
    const auto after = decode_id_cursor(paging.cursor);
    if (!after) return invalid_cursor(paging.cursor);
    const auto seen = read_views(store, *backend.options().expected());
    if (!seen) return seen.error();
    JsonList list("expectations");
    std::size_t added = 0;
    const std::string* last = nullptr;
    for (const ExpectationView& view : seen->views) {
      if (view.name <= *after) continue;
      if (added++ == paging.limit) return list.close(encode_id_cursor(*last));
      list.add(view_json(view));
      last = &view.name;
    }
    return list.close("");
  });
}

ApiAnswer get_findings(Backend& backend, const Call& call) {
  FindingFilter filter;
  filter.open = !call.arguments.flag("all");
  filter.expectation = call.arguments.get<std::string>("expectation");
  filter.kind = call.arguments.get<FindingKind>("kind");
  const Paging paging = paging_of(call.arguments);
  return backend.read(call.received, [&](Store& store) -> Result<JsonText> {
    const auto page = store.list_findings(filter, paging.limit, paging.cursor);
    if (!page) return page.error();
    JsonList list("findings");
    for (const Finding& finding : page->findings) list.add(finding_json(finding));
    return list.close(page->next);
  });
}

}  // namespace run_recorder
