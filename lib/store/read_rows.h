// Rows of a result to values, the same for every database: a template over PgFields and SqliteFields, which give the
// fields of a row one after the other. For the adapters' files. Pure; never throws on what a database holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "store/columns.h"
#include "store/store.h"

namespace run_recorder {

// One field into the member it belongs to. What an application wrote may be anything: a number is put within its
// column's range, a status that is none of ours reads as queued, whatever happens next decides.
template <class Fields>
struct ReadField {
  Fields& fields;
  Allowed allowed;
  bool presence = false;  // of a JSON column only whether it has a value

  void operator()(std::string& value) const { value = fields.text(); }
  void operator()(std::optional<std::string>& value) const { value = fields.optional_text(); }
  void operator()(bool& value) const { value = fields.boolean(); }
  void operator()(std::int64_t& value) const { value = fields.integer(); }
  void operator()(std::int32_t& value) const { value = narrow<std::int32_t>(fields.integer()); }
  void operator()(std::optional<std::int64_t>& value) const { value = fields.optional_integer(); }
  template <class Number>
  void operator()(std::optional<Number>& value) const {
    if (const auto number = fields.optional_integer()) value = narrow<Number>(*number);
  }
  void operator()(std::optional<Timestamp>& value) const { value = fields.time(); }
  void operator()(Timestamp& value) const { value = fields.time().value_or(Timestamp{}); }
  void operator()(Status& value) const { value = parse_status(fields.text()).value_or(Status::kQueued); }
  void operator()(Effect& value) const { value = parse_effect(fields.text()).value_or(Effect::kRecorded); }
  void operator()(JsonColumn& value) const {
    if (!presence) {
      value = fields.optional_text();
    } else if (fields.boolean()) {
      value = JsonColumn::not_loaded();
    }
  }

 private:
  template <class Number>
  Number narrow(std::int64_t number) const {
    return static_cast<Number>(std::clamp(number, allowed.least, allowed.most));
  }
};

// Of the columns that run_columns() has in these parts, in its order.
template <class Fields>
Run read_run(Fields& fields, RunParts parts) {
  Run run;
  for (const RunColumn& column : run_columns()) {
    if (!column.in(parts)) continue;
    visit_value(column, run, ReadField<Fields>{fields, column.allowed, parts == RunParts::kToDecide});
  }
  return run;
}

// Of history_columns(), in its order.
template <class Fields>
StoredEvent read_event(Fields& fields) {
  StoredEvent event;
  for (const HistoryColumn& column : history_columns()) {
    visit_value(column, event, ReadField<Fields>{fields, column.allowed});
  }
  if (event.entry.received_at == Timestamp{}) event.entry.received_at = event.inserted_at.value_or(Timestamp{});
  return event;
}

// The columns council, its running rows, and those of all councils.
template <class Fields>
void add_running(RunningCouncils& running, Fields& fields) {
  std::string council = fields.text();
  const std::uint64_t rows = fields.count();
  if (running.rows.empty()) running.others = fields.count();
  running.others -= rows;
  running.rows.emplace(std::move(council), rows);
}

// The columns recorder, worker_process, sender_process, connection, whether they expire, rows, whether it is a group
// at all, and the rows of all; groups come first.
template <class Fields>
void add_group(RunningGroups& found, Fields& fields) {
  RunningGroup group;
  group.recorder = fields.text();
  group.worker_process = fields.text();
  group.sender_process = fields.text();
  group.connection = fields.text();
  group.expires = fields.boolean();
  group.rows = fields.count();
  const bool grouped = fields.boolean();
  const std::uint64_t all = fields.count();
  if (found.groups.empty()) found.others = all;
  if (!grouped) return;
  found.others -= group.rows;
  found.groups.push_back(std::move(group));
}

// The columns council, last start, last success.
template <class Fields>
RecentCouncil read_recent_council(Fields& fields) {
  RecentCouncil council;
  council.council = fields.text();
  council.last_start = fields.time();
  council.last_success = fields.time();
  return council;
}

template <class Fields>
ReconciliationRow read_reconciliation(Fields& fields) {
  ReconciliationRow pass;
  pass.pass_id = fields.text();
  pass.recorder = fields.text();
  pass.trigger = fields.text();
  pass.started_at = fields.time().value_or(Timestamp{});
  pass.finished_at = fields.time();
  pass.report = fields.text();
  return pass;
}

// The columns id, recorder, run_id, type, event_id, record, line, sqlstate, reason, tries, received_at, inserted_at.
template <class Fields>
DeadLetter read_dead_letter(Fields& fields) {
  DeadLetter letter;
  letter.id = fields.integer();
  letter.recorder = fields.text();
  letter.run_id = fields.text();
  letter.type = fields.text();
  letter.event_id = fields.optional_text();
  letter.record = fields.bytes();
  letter.line = fields.text();
  letter.sqlstate = fields.text();
  letter.reason = fields.text();
  letter.tries = fields.integer();
  letter.received_at = fields.time();
  letter.inserted_at = fields.time();
  return letter;
}

// The columns id, host, version, incarnation, first_seen, last_seen and the ledger's five.
template <class Fields>
RecorderRow read_recorder(Fields& fields) {
  RecorderRow recorder;
  recorder.self.id = fields.text();
  recorder.self.host = fields.text();
  recorder.self.version = fields.text();
  recorder.self.incarnation = fields.text();
  recorder.first_seen = fields.time();
  recorder.last_seen = fields.time();
  Ledger& ledger = recorder.checkpoint.ledger;
  ledger.applied = fields.count();
  ledger.duplicate = fields.count();
  ledger.dead_letters = fields.count();
  ledger.dead_letters_removed = fields.count();
  ledger.conflicts = fields.count();
  return recorder;
}

}  // namespace run_recorder
