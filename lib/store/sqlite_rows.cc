#include "store/sqlite_rows.h"

#include <algorithm>
#include <limits>

namespace run_recorder {
namespace {

// An attempt's number, or seconds: what an application wrote may be anything.
std::int32_t within_int32(std::int64_t number) {
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(number, 1, std::numeric_limits<std::int32_t>::max()));
}

}  // namespace

std::string run_columns(RunColumns columns) {
  std::string names(kRunColumns);
  if (columns == RunColumns::kBare) return names;
  names += ", r.usage, r.progress";
  switch (columns) {
    case RunColumns::kAll:
      return names += ", r.error, r.input, r.result";
    case RunColumns::kToDecide:
      // typeof() reads a row's header only, not the pages that a long text lies on.
      return names += ", typeof(r.error) <> 'null', typeof(r.input) <> 'null', typeof(r.result) <> 'null'";
    case RunColumns::kWithoutData:
      return names += ", r.error";
    case RunColumns::kBare:
      break;
  }
  return names;
}

Run read_run(const SqliteRows& row, RunColumns columns) {
  Run run;
  run.run_id = row.text(0);
  run.council = row.text(1);
  run.status = parse_status(row.text(2)).value_or(Status::kQueued);
  run.attempt = within_int32(row.integer(3));
  run.parent_attempt_run_id = row.optional_text(4);
  run.oban_job_id = row.optional_integer(5);
  run.oban_job_state_at_finalize = row.optional_text(6);
  run.started_at = row.time(7);
  run.finalized_at = row.time(8);
  run.inserted_at = row.time(9);
  run.updated_at = row.time(10);
  run.council_given = row.integer(11) != 0;
  run.attempt_given = row.integer(12) != 0;
  run.recorder = row.text(13);
  run.worker_process = row.text(14);
  run.sender_process = row.text(15);
  run.connection = row.text(16);
  run.last_seq = row.integer(17);
  run.last_event_at = row.time(18);
  run.stuck_pass = row.text(19);
  run.queue = row.optional_text(20);
  run.job_id = row.optional_text(21);
  if (const auto seconds = row.optional_integer(22)) run.expires_in = within_int32(*seconds);
  if (columns == RunColumns::kBare) return run;
  run.usage = row.optional_text(kRunColumnCount);
  run.progress = row.optional_text(kRunColumnCount + 1);
  int column = kRunColumnCount + 2;
  switch (columns) {
    case RunColumns::kAll:
      run.input = row.optional_text(column + 1);
      run.result = row.optional_text(column + 2);
      [[fallthrough]];
    case RunColumns::kWithoutData:
      run.error = row.optional_text(column);
      break;
    case RunColumns::kToDecide: {
      for (JsonColumn* json : {&run.error, &run.input, &run.result}) {
        if (row.integer(column++) != 0) *json = JsonColumn::not_loaded();
      }
      break;
    }
    case RunColumns::kBare:
      break;
  }
  return run;
}

std::size_t weight_of(const Run& run) {
  const auto size = [](const auto& text) { return text ? text->size() : 0; };
  return sizeof(Run) + run.run_id.size() + run.council.size() + run.worker_process.size() +
         run.sender_process.size() + size(run.error) + size(run.input) + size(run.result) + size(run.usage) +
         size(run.progress) + size(run.job_id) + size(run.parent_attempt_run_id);
}

}  // namespace run_recorder
