// Passes of reconciliation: see handlers.h.
#include "base/json_writer.h"
#include "control/handlers.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kPassPatience{10'000};  // of who requests a pass

Result<JsonText> list_reconciliations(Store& store, const Paging& paging, std::string_view id_prefix) {
  const auto page = store.list_reconciliations(paging.limit, paging.cursor, id_prefix);
  if (!page) return page.error();
  JsonList list("reconciliations");
  for (const ReconciliationRow& row : page.value().passes) list.add(reconciliation_json(row));
  return list.close(page.value().next);
}

}  // namespace

ApiAnswer get_reconciliations(Backend& backend, const Call& call) {
  const Paging paging = paging_of(call.arguments);
  const std::string id_prefix = call.arguments.get<std::string>("id_prefix").value_or("");
  return backend.read(call.received, [&](Store& store) { return list_reconciliations(store, paging, id_prefix); });
}

ApiAnswer post_reconcile(Backend& backend, const Call& call) {
  PassRequest pass;
  pass.dry_run = call.arguments.flag("dry_run");
  pass.unvouched = call.arguments.flag("unvouched");
  pass.force = call.arguments.flag("force");
  const bool tables = backend.recorder().wait_tables(kPassPatience);
  if (!tables && backend.recorder().status().database == DatabaseState::kConnecting) return Backend::being_set_up();
  const auto report = backend.reconciler().reconcile(pass);
  return report ? json_answer(report->to_json()) : error_answer(report.error());
}

ApiAnswer post_undo(Backend& backend, const Call& call) {
  const std::string& pass_id = call.ids[0];
  return backend.read(call.received, [&](Store& store) -> Result<JsonText> {
    const auto undone = store.undo_pass(backend.recorder().self(), pass_id);
    if (!undone) return undone.error();
    JsonWriter out;
    out.text("pass_id", pass_id);
    out.number("undone", undone->undone);
    out.number("moved", undone->moved);
    return std::move(out).object();
  });
}

}  // namespace run_recorder
