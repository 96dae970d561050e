#include "recorder/acceptance_probe.h"

#include <utility>

#include "recorder/probe.h"

namespace run_recorder {

void AcceptanceProbe::taken(bool inserts, bool changes) {
  took_new_ = took_new_ || inserts;
  took_changed_ = took_changed_ || changes;
}

Result<bool> AcceptanceProbe::takes_others(const Target& target, const Refused& refused, std::uint64_t seq) {
  const auto probed = takes_probe(target);
  if (!probed || probed.value()) return probed;
  // Something of somebody else's wants no rows like the probe's. Those of other events count as well, if they are
  // written in the same way.
  if (refused.inserts ? took_new_ : took_changed_) return true;
  return takes_one_behind(target, refused, seq);
}

// First a run like any, then one like the newest.
Result<bool> AcceptanceProbe::takes_probe(const Target& target) {
  const auto usual = rehearse(target, probe_writes(target.place, nullptr, target.self.recorded_by()));
  if (!usual || usual.value()) return usual;
  RunFilter newest;
  newest.limit = 1;
  const auto page = target.store.list_runs(newest);
  if (!page) return page.error();
  if (page.value().runs.empty()) return false;
  const auto row = target.store.find_run(page.value().runs.front().run_id);
  if (!row) return row.error();
  if (!row.value()) return false;
  return rehearse(target, probe_writes(target.place, &*row.value(), target.self.recorded_by()));
}

// Whether one of the events behind a refused one would be taken, each by itself and written in the same way.
Result<bool> AcceptanceProbe::takes_one_behind(const Target& target, const Refused& refused, std::uint64_t seq) {
  for (SpooledEvent& event : reader_.read_behind(seq)) {
    std::vector<SpooledEvent> alone;
    alone.push_back(std::move(event));
    auto decision = decider_.decide_each(target.store, std::move(alone), target.self.recorded_by(), Lookup::kStored);
    if (!decision) continue;
    BatchWrite write = target.place;
    write.runs = std::move(decision.value().runs);
    write.history = std::move(decision.value().history);
    if (write.runs.empty() || write.runs.front().insert != refused.inserts) continue;
    const auto taken = rehearse(target, {&write, 1});
    if (!taken || taken.value()) return taken;
  }
  return false;
}

// False: rows were refused, or not as expected. Errors: what is no fault of the rows.
Result<bool> AcceptanceProbe::rehearse(const Target& target, std::span<const BatchWrite> writes) {
  liveness_.beat();
  const auto taken = target.store.rehearse(target.self, writes);
  if (taken) return taken.value() == Committed::kYes;
  health_.count(taken.error());
  if (cause_of(taken.error()) == FailureCause::kContent) return false;
  return taken.error();
}

}  // namespace run_recorder
